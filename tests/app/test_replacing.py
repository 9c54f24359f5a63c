"""What is replaced is whole, before and after."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.atomic import write_text
from gpt2_lightning.atomic_replace import recover, replacing
from gpt2_lightning.errors import UserError

KILLED = """
import os, signal, sys
from pathlib import Path
from gpt2_lightning.atomic import write_text
from gpt2_lightning.atomic_replace import replacing
moment, right = sys.argv[1], Path.replace
def replace(self, target):
    if moment == "after":
        right(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace
with replacing(Path("model").absolute(), "target") as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
"""


@pytest.fixture
def model(workplace: Path) -> Path:
    (workplace / "model").mkdir()
    (workplace / "model" / "precious").touch()
    return workplace / "model"


def content(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.mark.parametrize(("moment", "expected"), [("before", "precious"), ("after", "new")])
def test_a_folder_is_found_again_after_a_kill_between_the_renames(
    model: Path, root: Path, moment: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", KILLED, moment], env=environment).returncode == -9
    assert model.exists() == (moment == "after")
    other = model.with_name(".model.v2.71.old")  # of a target model.v2
    other.touch()
    recover(model)
    assert content(model) == [expected]
    assert not [file for file in model.parent.glob(".model.*.old") if file != other]
    assert other.exists()
    assert ("was restored" in capsys.readouterr().out) == (moment == "before")


def make_new(model: Path) -> None:
    with replacing(model, "target") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupt_between_the_renames_leaves_one_folder(
    model: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Path.replace

    def replace(self: Path, target: Path) -> None:
        if moment == "after":
            right(self, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            make_new(model)
    assert content(model) == [{"before": "precious", "after": "new"}[moment]]
    assert content(model.parent) == ["model"]


def test_an_abandoned_temporary_of_a_text_is_removed_when_it_is_written_again(workplace: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (workplace / f".status.json.{ended.pid}@{socket.gethostname()}.tmp").write_text("hal")
    write_text(workplace / "status.json", "whole")
    assert content(workplace) == ["status.json"]


def test_temporaries_of_ended_processes_are_removed(model: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    host, parent = socket.gethostname(), model.parent
    left = parent / f".model.{ended.pid}@{host}.tmp"
    left.mkdir()
    (left / "part").touch()
    kept = [
        f".model.{os.getppid()}@{host}.tmp",
        f".model.{ended.pid}@elsewhere.tmp",
        f".model.v2.{ended.pid}@{host}.tmp",
    ]
    for name in kept:
        (parent / name).touch()
    make_new(model)
    assert sorted(content(parent)) == sorted(["model", *kept])


def read_nothing(_: Path) -> None:
    Path("nowhere.txt").read_text()


def fail_as_libraries_do(_: Path) -> None:
    raise OSError("Can't load the tokenizer")


def fill_the_disk(_: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_into_nothing(temporary: Path) -> None:
    (temporary / "file").write_text("")


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (read_nothing, r"was not written, since something could not be read: .* No such file or directory: 'nowhere"),
        (fail_as_libraries_do, "was not written, since something could not be read: Can't load the tokenizer"),
        (fill_the_disk, "cannot be written: No space left on device; free or change the folder"),
        (write_into_nothing, "cannot be written: No such file or directory"),
    ],
)
def test_reading_and_writing_that_fail_are_told_apart(model: Path, fail: Callable[[Path], None], message: str) -> None:
    with pytest.raises(UserError, match=f"^output: {model} {message}"), replacing(model, "output") as temporary:
        fail(temporary)
    assert content(model) == ["precious"]
    assert content(model.parent) == ["model"]
