"""Temporary files of processes that were killed with all that they had started."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gpt2_lightning import process_folder
from gpt2_lightning.data.shards import worker_pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has semaphores as files")


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of multiprocessing for this test, and a folder for temporary files."""
    before = dict(multiprocessing.current_process()._config)  # type: ignore[attr-defined]  # private
    monkeypatch.setattr(multiprocessing.current_process(), "_config", before)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("own_settings")
def test_what_a_killed_launcher_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_folder, "_SEMAPHORES", tmp_path)
    killed, running = (tmp_path / f"gpt2-processes-{name}" for name in ("killed", "running"))
    for folder in (killed, running):
        folder.mkdir()
        (folder / "listener").touch()
        (tmp_path / f"sem.{folder.name}-1").touch()
    assert process_folder._lock(running)
    own = process_folder.process_folder.__wrapped__()
    process_folder.remove_abandoned()
    left = {running.name, own.name, f"sem.{running.name}-1"}
    assert {file.name for file in tmp_path.iterdir()} == left
    assert not process_folder._lock(own), "it is locked against the next"
    # The prefix of semaphores, unless joblib was imported, which replaces the names of all.
    assert multiprocessing.current_process()._config["semprefix"] == f"/{own.name}"  # type: ignore[attr-defined]  # private
    shutil.rmtree(own)


@pytest.mark.usefixtures("own_settings")
def test_a_folder_that_cannot_be_locked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(process_folder, "_lock", fail)
    with pytest.raises(OSError, match="Input/output"):
        process_folder.process_folder.__wrapped__()
    assert not list(tmp_path.iterdir())


_KILLED_BEFORE_ITS_LOCK = """
import os, signal
from gpt2_lightning import process_folder
process_folder._lock = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
process_folder.process_folder()
"""


@pytest.mark.usefixtures("own_settings")
def test_a_folder_is_removed_whose_process_was_killed_before_it_locked_it(tmp_path: Path) -> None:
    program = [sys.executable, "-c", _KILLED_BEFORE_ITS_LOCK]
    assert subprocess.run(program, env={**os.environ, "TMPDIR": str(tmp_path)}).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir())
    process_folder.remove_abandoned()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("own_settings")
def test_a_child_uses_the_folder_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = process_folder.process_folder.__wrapped__()
    monkeypatch.setattr(multiprocessing, "parent_process", multiprocessing.current_process)
    assert process_folder.process_folder.__wrapped__() == own
    shutil.rmtree(own)


def test_a_pool_of_workers_names_its_semaphores_after_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def begun() -> None:
        raise Begun

    monkeypatch.setattr(worker_pool, "process_folder", begun)
    with pytest.raises(Begun):
        next(worker_pool.encode_in_processes(Encoder(), [], 2))  # type: ignore[arg-type]  # only its fields are read


class Encoder:
    corpus = source = folder = None

    class tokenizer:  # noqa: N801 - an attribute
        @staticmethod
        def to_text() -> str:
            return ""
