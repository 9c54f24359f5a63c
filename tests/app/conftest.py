"""A small text, and a run of the tiny model on it that tests may read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpt2_lightning.app.main import main
from tests.app.tiny_runs import TINY


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand characters of lower-case words, with line breaks."""
    words = ["ship", "star", "keeper", "lamp", "goes", "over", "the", "old", "sea", "and", "back"]
    text = " ".join(words[i * i % 11] + ("\n" if i % 13 == 0 else "") for i in range(2200))[:10_000]
    file = tmp_path_factory.mktemp("text") / "small.txt"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_run(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of twelve steps; not to be written to."""
    runs = tmp_path_factory.mktemp("runs")
    settings = ["trainer.max_steps=12", "trainer.val_check_interval=5", "callbacks.checkpoint.every_n_steps=4"]
    where = [f"data.path={small_text}", f"runs_dir={runs}", f"cache_dir={runs / 'cache'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])
        patch.chdir(runs)  # which is no repository, so that the run has no state of one
        with pytest.raises(SystemExit) as stop:
            main("train", ["data=text", *where, *TINY, *settings])
    assert stop.value.code == 0
    (folder,) = (runs / "text-tiny").iterdir()
    return folder
