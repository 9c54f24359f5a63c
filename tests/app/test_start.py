"""Ctrl-C while the program starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.app.commands.inspection import params
from tests.outcomes import Outcome

INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    pass
raise ImportError("the interrupt was lost")
"""
"""A module whose import is interrupted, and which swallows the exception."""


def start_with(module: str, folder: Path, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the program with an interrupted module."""
    (folder / module).parent.mkdir(exist_ok=True)
    (folder / module).write_text(INTERRUPTED)
    path = os.pathsep.join([str(folder), str(root)])
    program = [sys.executable, "-c", f"{';'.join(more)}\nfrom gpt2_lightning.app.main import main; main('params')"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(program, env=environment, capture_output=True, text=True, cwd=folder, timeout=60)


@pytest.mark.parametrize("module", ["hydra.py", "torch.py"])
def test_an_interrupted_import_ends_in_one_line(module: str, tmp_path: Path, root: Path) -> None:
    outcome = start_with(module, tmp_path, root)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (130, "", "error: stopped\n")


def test_an_interrupt_that_a_shell_ignores_is_ignored(tmp_path: Path, root: Path) -> None:
    outcome = start_with("hydra.py", tmp_path, root, "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert "the interrupt was lost" in outcome.stderr


def test_a_verb_cleans_up_after_an_interrupt(
    run_verb: Callable[..., Outcome], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            Path("cleaned").touch()

    monkeypatch.setattr(params, "run", run)
    outcome = run_verb("params", f"checkpoint={tiny_run}")
    assert (outcome.code, outcome.err) == (130, "error: stopped at once; what was saved before is kept\n")
    assert Path("cleaned").exists()
