"""The end of the program."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt2_lightning.app.output import exits
from gpt2_lightning.app.output.exits import (
    exiting_at_sigterm,
    reporting_signals,
)
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.training.callbacks import Samples
from tests.outcomes import Outcome

Run = Callable[..., Outcome]
TINY = ("model=tiny", "trainer=cpu")

ENDING = """
import signal, weakref
from gpt2_lightning.app.output.exits import exiting_at_interrupt

kept = set
weakref.finalize(kept, signal.raise_signal, signal.SIGINT)  # called while the interpreter ends
with exiting_at_interrupt():
    print("done", flush=True)
"""


def test_a_ctrl_c_while_the_interpreter_ends_prints_no_trace() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "done\n", "")


@pytest.fixture
def _handlers() -> Iterator[None]:
    """Lightning ignores SIGINT after the first one."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize(
    ("number", "place", "hook"),
    [
        (signal.SIGTERM, Samples, "on_fit_start"),
        (signal.SIGINT, Samples, "on_fit_start"),
        (signal.SIGINT, TokenDataModule, "train_dataloader"),
        (signal.SIGTERM, TokenDataModule, "train_dataloader"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_a_signal_before_the_first_step_has_its_code_whatever_lightning_makes_of_it(
    run_verb: Run, small_text: Path, number: int, place: type, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, hook, lambda *_, **__: signal.raise_signal(number))
    done = run_verb("train", *TINY, "data=text", f"data.path={small_text}", "trainer.max_steps=2")
    assert done.code == 128 + number
    assert "Traceback" not in done.err


def test_a_signal_while_the_configuration_is_composed_has_its_code(
    run_verb: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")

    monkeypatch.setattr("hydra.main", interrupted)
    done = run_verb("train", *TINY)
    assert (done.code, done.err) == (143, "error: stopped at once; what was saved before is kept\n")


def test_a_signal_that_an_import_turned_into_an_error_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = SystemExit(143)  # of the handler of SIGTERM
    with pytest.raises(SystemExit) as stop, reporting_signals():
        raise error
    assert stop.value.code == 143
    assert capsys.readouterr().err == "error: stopped at once; what was saved before is kept\n"


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_an_import_has_ignored_has_its_code(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch ignores it when it imports NumPy, which is left without a part that another import needs."""
    program = f"import signal\ntry:\n    signal.raise_signal({number})\nexcept BaseException:\n    pass\n0 / 0\n"
    (tmp_path / f"broken_by_signal_{number}.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    signal.signal(signal.SIGINT, exits._interrupt)
    with pytest.raises(SystemExit) as stop, exiting_at_sigterm(), reporting_signals():
        importlib.import_module(f"broken_by_signal_{number}")
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err == "error: stopped at once; what was saved before is kept\n"


@pytest.mark.parametrize("error", [ValueError(), SystemExit(2)], ids=repr)
def test_an_error_after_a_ctrl_c_that_the_program_has_handled_remains(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "_received", [signal.SIGINT])
    with pytest.raises(type(error)) as raised, reporting_signals():
        raise error
    assert raised.value is error


def test_a_signal_in_a_finalizer_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints and ignores an exception that is raised there."""

    def finalize() -> None:
        finalized = type("Finalized", (), {})()
        weakref.finalize(finalized, signal.raise_signal, signal.SIGTERM)
        del finalized
        time.sleep(5)

    with pytest.raises(SystemExit) as stop, exiting_at_sigterm(), reporting_signals():
        finalize()
    assert stop.value.code == 143
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError(), SystemExit(1), SystemExit(130)])
def test_other_errors_and_exits_remain(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, reporting_signals():
        raise error
    assert raised.value is error
