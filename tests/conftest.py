"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # tiny models are faster on one core, here and in processes that tests start

from gpt2_lightning.app.main import main
from tests.outcomes import Outcome

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return _ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout, where there is any; a user's clone has none."""
    folder = Path(os.environ.get("GPT2_LIGHTNING_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout; set GPT2_LIGHTNING_DATA to its folder")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a home of its own for caches."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("rich._console", None)  # made once, with the width of that moment
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run_verb(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run a verb of the program in this process, as its command line would."""

    def run(verb: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"{verb}.py"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(verb, list(arguments))
        captured = capsys.readouterr()
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else 1, captured.out, captured.err)

    return run
