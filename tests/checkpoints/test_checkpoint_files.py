import os
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError

CONTENT = {
    "state_dict": {"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(7)},
    "gpt2_lightning": {"format": 1, "betas": [0.9, 0.95], "name": "nö", "clip": None, "resume": False},
    "loops": {"fit": ({"ready": 3},)},
}


class RunsCode:
    """A value that makes a folder wherever it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "step-000001.ckpt"
    files.write(CONTENT, path)
    return path


@pytest.fixture
def room_on_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Within `room_on_disk(n)` no file can grow beyond n bytes."""
    resource = pytest.importorskip("resource", reason="the size of a file can be limited on POSIX only")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def test_what_was_written_is_read(saved: Path) -> None:
    found = files.read(saved)
    assert torch.equal(found["state_dict"].pop("weight"), CONTENT["state_dict"]["weight"])
    assert found["state_dict"]["step"].dtype == torch.int64
    assert found["gpt2_lightning"] == CONTENT["gpt2_lightning"]
    assert found["loops"] == CONTENT["loops"]


def test_a_written_file_loads_with_weights_only(saved: Path) -> None:
    assert set(torch.load(saved, weights_only=True)) == set(CONTENT)


def test_the_folder_is_made_and_holds_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    for step in (1, 2):
        files.write({"global_step": step}, path)
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]
    assert files.read(path) == {"global_step": 2}


@pytest.mark.parametrize("room", [0, 100, 1_000, 30_000, 400_000], ids=lambda room: f"after {room} bytes")
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(
    saved: Path, room_on_disk: Callable[[int], AbstractContextManager[None]], room: int
) -> None:
    before = saved.read_bytes()
    large = {"a": torch.ones(10_007), "b": torch.ones(90_001)}
    with room_on_disk(room), pytest.raises(UserError, match=r"step-000001\.ckpt cannot be written: (?!None)"):
        files.write(large, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_content_that_cannot_be_saved_leaves_no_temporary_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        files.write({"schedule": lambda step: step}, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_second_ctrl_c_while_writing_leaves_no_temporary_file(saved: Path) -> None:
    class Interrupting:
        def __reduce__(self) -> tuple[Any, ...]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write({"weights": Interrupting()}, saved)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"checkpoints.step-000002\.ckpt cannot be written"):
        files.write(CONTENT, tmp_path / "checkpoints" / "step-000002.ckpt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(UserError, match=f"there is no checkpoint {path}"):
            files.read(path)


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "empty.ckpt"
    path.touch()
    with pytest.raises(UserError, match=r"\(0 bytes\) is damaged or cut off"):
        files.read(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_damaged(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    kept = int(len(whole) * share)
    saved.write_bytes(whole[:kept])
    with pytest.raises(UserError, match=rf"\({kept:,} bytes\) is damaged or cut off"):
        files.read(saved)


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 5])
def test_the_first_bytes_of_a_file_are_damaged(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(UserError, match="is damaged or cut off"):
        files.read(saved)


def test_garbage_is_a_users_mistake(tmp_path: Path) -> None:
    path = tmp_path / "garbage.ckpt"
    dice = random.Random(0)
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,\n"
    for alphabet in (letters, bytes(range(256))):
        for _ in range(100):
            path.write_bytes(bytes(dice.choices(alphabet, k=dice.randrange(1, 60))))
            with pytest.raises(UserError, match=r"garbage\.ckpt"):
                files.read(path)


@pytest.mark.parametrize("text", ["The airlock sang.\n", "version https://git-lfs"])
def test_a_text_is_not_taken_for_code(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.ckpt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        files.read(path)
    assert "could run code" not in str(caught.value)


def save_as_plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def save_as_old_torch(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_as_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


SAVES = [save_as_plain_pickle, save_as_old_torch, save_as_zip]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    "wrap", [lambda code: code, lambda code: {"state_dict": {"weight": code}}], ids=["bare", "deep"]
)
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(
    tmp_path: Path, save: Callable[[Any, Path], None], wrap: Callable[[Any], Any]
) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "it-ran"
    save(wrap(RunsCode(mark)), path)
    with pytest.raises(UserError, match=r"evil\.ckpt holds something other than tensors.*refused"):
        files.read(path)
    assert not mark.exists()


@pytest.mark.parametrize("save", SAVES)
def test_the_code_of_these_pickles_would_run_elsewhere(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "it-ran"
    save(RunsCode(mark), path)
    if save is save_as_plain_pickle:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(("content", "name"), [(torch.ones(3), "Tensor"), ([1, 2], "list"), ("text", "str")])
def test_a_file_without_a_mapping_is_no_checkpoint(tmp_path: Path, content: Any, name: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"other\.pt holds a {name} and not a checkpoint"):
        files.read(path)
