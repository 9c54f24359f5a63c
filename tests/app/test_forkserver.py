"""Temporary files of processes that were killed with all that they had started."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from gpt2_lightning.app.launch import forkserver

pytestmark = pytest.mark.skipif(forkserver.METHOD != "forkserver", reason="only Linux has a fork server")


def test_what_a_killed_launcher_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(multiprocessing.current_process()._config)  # type: ignore[attr-defined]  # private
    monkeypatch.setattr(multiprocessing.current_process(), "_config", before)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(forkserver, "_SEMAPHORES", tmp_path)
    killed, running, young = (tmp_path / f"gpt2-processes-{name}" for name in ("killed", "running", "young"))
    for folder in (killed, running, young):
        folder.mkdir()
        (folder / "listener").touch()
        (tmp_path / f"sem.{folder.name}-1").touch()
    for folder in (killed, running):
        os.utime(folder, (time.time() - 3600, time.time() - 3600))
    assert forkserver._lock(running)
    own = forkserver.temporary_folder.__wrapped__()
    assert {file.name for file in tmp_path.iterdir()} == {
        *(folder.name for folder in (running, young, own)),
        *(f"sem.{folder.name}-1" for folder in (running, young)),
    }
    assert not forkserver._lock(own), "it is locked against the next"
    with multiprocessing.get_context("spawn").Semaphore() as _:
        assert list(Path("/dev/shm").glob(f"sem.{own.name}-*"))
    shutil.rmtree(own)
