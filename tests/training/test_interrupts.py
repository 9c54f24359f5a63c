import dataclasses
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from gpt2_lightning.training.interrupts import Interrupted, SignalWatch
from tests.training.raised_signals import RaiseSignal
from tests.training.short_run import CONFIG, Plan, Run, same_tensors

Train = Callable[..., Run]
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Handlers are this process's, and outlive a test that fails."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def plan_of(run_dir: Path, *callbacks: L.Callback, micro_batch_size: int = 6) -> Plan:
    """A run that would save only at its end."""
    config = dataclasses.replace(CONFIG, embd_pdrop=0.1, attn_pdrop=0.1, resid_pdrop=0.1)
    saves = {"every_n_steps": 500}
    return Plan(
        run_dir, model=config, callbacks=callbacks, micro_batch_size=micro_batch_size, checkpointing=saves, max_steps=10
    )


@pytest.fixture(scope="module")
def whole_runs(train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    """Uninterrupted runs by size of the micro-batch."""
    return {size: train(plan_of(tmp_path_factory.mktemp(f"whole-{size}"), micro_batch_size=size)) for size in (6, 2)}


@pytest.mark.parametrize("number", NUMBERS[:2], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("step", "hook", "saved", "micro_batch_size"),
    [
        *((3, "on_train_batch_end", 3, size) for size in (6, 2)),
        *((6, "on_train_batch_end", 6, size) for size in (6, 2)),
        *((4, "on_train_batch_end", 4, size) for size in (6, 2)),
        *((4, "on_validation_start", 4, size) for size in (6, 2)),
        (5, "on_train_batch_start", 6, 2),
    ],
)
def test_a_signal_saves_and_a_resume_equals_an_uninterrupted_run(
    train: Train,
    whole_runs: dict[int, Run],
    tmp_path: Path,
    step: int,
    hook: str,
    saved: int,
    micro_batch_size: int,
    number: int,
) -> None:
    """Between two rows, at a row, before a validation, in one, and inside a step, which is finished first."""
    plan = plan_of(tmp_path, RaiseSignal(step, number, hook), micro_batch_size=micro_batch_size)
    with pytest.raises(Interrupted) as caught:
        train(plan)
    assert (caught.value.signal_number, caught.value.saved) == (number, True)
    checkpoint = tmp_path / "checkpoints" / f"step-{saved:06d}.ckpt"
    others = {file.name for file in checkpoint.parent.iterdir()} - {"best.ckpt"}
    assert others == {checkpoint.name}
    resumed = train(plan_of(tmp_path, micro_batch_size=micro_batch_size), resume=checkpoint)
    whole = whole_runs[micro_batch_size]
    assert same_tensors(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
    assert resumed.column("val/loss") == whole.column("val/loss")


def test_the_old_handlers_are_back_after_an_interruption(train: Train, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(Interrupted):
        train(plan_of(tmp_path, RaiseSignal(2)))
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_the_old_handlers_are_back_after_a_run_and_after_a_fault(train: Train, tmp_path: Path) -> None:
    class Fail(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise ZeroDivisionError

    before = [signal.getsignal(number) for number in NUMBERS]
    train(plan_of(tmp_path / "done"))
    assert [signal.getsignal(number) for number in NUMBERS] == before
    with pytest.raises(ZeroDivisionError):
        train(plan_of(tmp_path / "failed", Fail()))
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_second_ctrl_c_stops_a_run_at_once(train: Train, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(Interrupted) as caught:
        train(plan_of(tmp_path, RaiseSignal(3, times=2)))
    assert not caught.value.saved
    assert not (tmp_path / "checkpoints").exists()
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_the_first_signal_is_remembered_and_the_second_stops(number: int) -> None:
    watch = SignalWatch()
    watch.start()
    try:
        assert watch.received is None
        signal.raise_signal(number)
        assert watch.received == number
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGINT)
        assert (caught.value.signal_number, caught.value.saved) == (signal.SIGINT, False)
    finally:
        watch.stop()


def test_a_hangup_that_is_ignored_remains_ignored() -> None:
    """As under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watch = SignalWatch()
    watch.start()
    signal.raise_signal(signal.SIGHUP)
    watch.stop()
    assert (watch.received, signal.getsignal(signal.SIGHUP)) == (None, signal.SIG_IGN)


def test_a_stopped_watch_hears_nothing() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    watch = SignalWatch()
    watch.start()
    watch.stop()
    signal.raise_signal(signal.SIGINT)
    assert (watch.received, heard) == (None, [signal.SIGINT])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_exit_codes_are_the_shells(number: int, code: int) -> None:
    stop = Interrupted(number, saved=True)
    assert stop.exit_code == code
    assert str(stop) == signal.Signals(number).name
