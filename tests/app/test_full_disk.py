"""A full disk, or a place that cannot be written, is named; nothing incomplete is left."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from matplotlib.figure import Figure

from gpt2_lightning import atomic
from gpt2_lightning.app.commands.inspection import params
from gpt2_lightning.huggingface import weight_files
from tests.app.tiny_runs import TINY
from tests.outcomes import Outcome

Run = Callable[..., Outcome]


def full_disk(*named: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)


@pytest.fixture
def largest_file() -> Iterator[None]:
    """No file of this process can have more than 10,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("largest_file")
def test_weights_that_do_not_fit_on_the_disk_are_an_os_error(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(OSError, match="File too large") as caught:
        weight_files.save({"x": torch.zeros(10_000)}, file)
    assert caught.value.filename == str(file)


@pytest.mark.usefixtures("largest_file")
def test_a_conversion_onto_a_full_disk_names_the_target(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = run_verb("convert", f"source={tiny_run}", "target=hf")
    assert outcome.code == 2, outcome
    assert f"error: {workplace / 'hf'} cannot be written: File too large" in outcome.err
    assert not list(workplace.iterdir())


def test_an_error_of_a_verb_names_file_and_reason(
    run_verb: Run, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise full_disk("somewhere/file.bin")

    monkeypatch.setattr(params, "run", fail)
    outcome = run_verb("params", f"checkpoint={tiny_run}")
    assert outcome.code == 2, outcome
    assert outcome.err == "error: somewhere/file.bin cannot be written: No space left on device\n"


def test_an_error_of_an_open_file_names_it(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'it'}'"),
        atomic.open_binary(tmp_path / "it"),
    ):
        raise full_disk()
    assert not list(tmp_path.iterdir())


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is a device or a pipe"):
        atomic.write_text(pipe, "text")
    assert pipe.is_fifo()


@pytest.mark.parametrize("output", ["/dev/null", "/dev/full"])
def test_answers_are_not_written_to_a_device(run_verb: Run, tiny_run: Path, workplace: Path, output: str) -> None:
    (workplace / "prompts.jsonl").write_text('{"prompt": "the old"}\n')
    outcome = run_verb("generate", f"checkpoint={tiny_run}", "prompts=prompts.jsonl", f"output={output}")
    assert outcome.code == 2, outcome
    assert outcome.err == f"error: output: {output} is a folder, a device or a pipe; name a file\n"


def test_a_loss_curve_that_does_not_fit_is_named_and_drawn_by_a_resume(
    run_verb: Run, small_text: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: Figure, file: Path, **_: Any) -> NoReturn:
        Path(file).write_bytes(b"")
        raise full_disk()

    settings = [*TINY, "data=text", f"data.path={small_text}", "trainer.max_steps=2", "run_dir=runs/text-tiny/1"]
    picture = workplace / "runs" / "text-tiny" / "1" / "loss.png"
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", fail)
        outcome = run_verb("train", *settings)
    assert outcome.code == 2, outcome
    assert "runs/text-tiny/1/loss.png cannot be written: No space left on device" in outcome.err
    assert not list(picture.parent.glob("*.png")) + list(picture.parent.glob(".*"))
    assert run_verb("train", *settings, "resume=auto").code == 0
    assert picture.stat().st_size > 10_000
