"""Checkpoints that a thread writes equal those that are written at once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import lightning as L
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gpt2_lightning import atomic
from gpt2_lightning.checkpoints import files, folder
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.callbacks import Checkpointing
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.saving import checkpoint_io
from gpt2_lightning.training.saving.checkpoint_io import AtomicCheckpointIO, writes_of
from gpt2_lightning.training.saving.host_copy import snapshot, to_host
from gpt2_lightning.training.saving.write_queue import WriteQueue
from tests.training.raised_signals import RaiseSignal
from tests.training.short_run import InBackground, Plan, Run, same_tensors

Train = Callable[..., Run]


def in_background(run_dir: Path, *callbacks: L.Callback, **settings: Any) -> Plan:
    return Plan(run_dir, callbacks=[InBackground(), *callbacks], **settings)


class Steps(L.Callback):
    """The number of completed steps, as an event for a thread."""

    def __init__(self) -> None:
        self.changed, self.done = threading.Condition(), 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        with self.changed:
            self.done = trainer.global_step
            self.changed.notify_all()

    def wait_for(self, step: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.done >= step, timeout=60), f"step {step} waits for the write"


@pytest.fixture(scope="module")
def at_once(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(Plan(tmp_path_factory.mktemp("at-once"), checkpointing={"every_n_steps": 3}))


@pytest.fixture
def writes_late(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Every file is written after the next step has changed the weights; the last one at once."""
    steps, write = Steps(), files.write

    def late(checkpoint: dict[str, Any], path: Path) -> None:
        steps.wait_for(min(12, checkpoint["global_step"] + 1))
        write(checkpoint, path)

    monkeypatch.setattr(files, "write", late)
    return steps


def same_checkpoints(one: Run, other: Run) -> bool:
    ours, theirs = (
        {name: files.read(run.run_dir / "checkpoints" / name) for name in run.checkpoint_names()}
        for run in (one, other)
    )
    return same_tensors(ours, theirs)


def test_checkpoints_hold_the_state_at_their_step(
    train: Train, at_once: Run, tmp_path: Path, writes_late: Steps
) -> None:
    run = train(in_background(tmp_path, writes_late, checkpointing={"every_n_steps": 3}))
    assert same_checkpoints(run, at_once)
    assert run.rows() == at_once.rows()
    assert not writes_of(run.trainer).in_background


def test_checkpoints_without_a_snapshot_would_differ(
    train: Train, at_once: Run, tmp_path: Path, writes_late: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_io, "snapshot", lambda content: content)
    run = train(in_background(tmp_path, writes_late, checkpointing={"every_n_steps": 3}))
    assert not same_checkpoints(run, at_once)


def test_a_snapshot_has_memory_of_its_own_and_keeps_ties() -> None:
    weight, moment = torch.randn(3, 4), torch.randn(4, 3).T
    original = {"weights": {"embedding": weight, "head": weight.detach()}, "state": [moment, (1, "a")], "step": 7}
    copied = snapshot(original)
    assert same_tensors(copied, original)
    assert copied["weights"]["embedding"].data_ptr() == copied["weights"]["head"].data_ptr() != weight.data_ptr()
    weight.zero_()
    moment.zero_()
    original["state"].append(2)
    assert copied["weights"]["head"].all()
    assert copied["state"][0].all()
    assert len(copied["state"]) == 2


def test_a_tensor_of_a_gpu_is_copied_to_pinned_memory() -> None:
    with FakeTensorMode(), mock.patch.object(torch, "empty_like", wraps=torch.empty_like) as made:
        copied = to_host(torch.empty(3, device="cuda"))
    assert made.call_args.kwargs == {"device": "cpu", "pin_memory": True}
    assert copied.device.type == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_thread_writes_for_gpus_only(tmp_path: Path, device: str) -> None:
    writer = AtomicCheckpointIO()
    strategy = SimpleNamespace(root_device=torch.device(device), checkpoint_io=writer)
    trainer: Any = SimpleNamespace(global_step=0, is_global_zero=True, strategy=strategy)
    Checkpointing(tmp_path).on_train_start(trainer, L.LightningModule())
    assert writer.writes.in_background == (device == "cuda")
    writer.teardown()


def test_a_tied_weight_is_written_once(tmp_path: Path) -> None:
    weight = torch.randn(300, 100)
    files.write(snapshot({"embedding": weight, "head": weight.view(300, 100)}), tmp_path / "a.ckpt")
    assert weight.nbytes < (tmp_path / "a.ckpt").stat().st_size < 1.5 * weight.nbytes


class FullDisk:
    """No room for the checkpoints from a step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.save, self.step = torch.save, step
        monkeypatch.setattr(torch, "save", self)

    def __call__(self, checkpoint: dict[str, Any], file: Any) -> None:
        if checkpoint["global_step"] >= self.step:
            file.write(b"what fits")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.save(checkpoint, file)


@pytest.mark.parametrize(("full_from", "last_step"), [(6, 7), (4, 5), (12, 12)])
def test_a_full_disk_ends_the_run_after_the_next_step(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_from: int, last_step: int
) -> None:
    """Step 4 is the best so far: no step is linked to the best checkpoint of before."""
    FullDisk(monkeypatch, full_from)
    steps = Steps()

    class Unhurried(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            while (last := writes_of(trainer)._last) is not None and not last.done():
                time.sleep(0.001)

    with pytest.raises(UserError, match=r"\.ckpt cannot be written: No space left on device"):
        train(in_background(tmp_path, steps, Unhurried(), checkpointing={"every_n_steps": 2, "keep": 1}))
    assert steps.done == last_step
    newest = folder.newest(tmp_path)
    assert newest is not None
    assert newest.name == folder.step_name(full_from - 2), "the one before is kept"
    assert files.read(newest)["global_step"] == full_from - 2
    assert not [file.name for file in newest.parent.iterdir() if file.name.startswith(".")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoints")]


def test_an_exception_leaves_the_checkpoint_that_is_being_written_complete(
    train: Train, at_once: Run, tmp_path: Path, writes_late: Steps
) -> None:
    class Fails(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(in_background(tmp_path, writes_late, Fails(), checkpointing={"every_n_steps": 3}))
    name = folder.step_name(3)
    found, expected = (files.read(run / "checkpoints" / name) for run in (tmp_path, at_once.run_dir))
    assert same_tensors(found, expected)


def test_a_signal_waits_for_its_checkpoint(train: Train, tmp_path: Path) -> None:
    stop = RaiseSignal(3, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        train(in_background(tmp_path, stop))
    assert stopped.value.saved
    assert files.read(tmp_path / "checkpoints" / folder.step_name(3))["global_step"] == 3


def test_a_checkpoint_that_is_saved_outside_of_a_run_is_complete(at_once: Run, tmp_path: Path) -> None:
    at_once.trainer.save_checkpoint(tmp_path / "now.ckpt")
    assert files.read(tmp_path / "now.ckpt")["global_step"] == 12


def test_writes_are_carried_out_in_their_order_up_to_one_that_fails() -> None:
    writes, done = WriteQueue(), list[int]()
    writes.add(done.append, 0)
    assert done == [0], "without a thread, at once"
    writes.start()
    gate = threading.Event()
    writes.add(gate.wait)
    for number in range(1, 4):
        writes.add(done.append, number)
    writes.add(files.write, {}, Path("/dev/null/a.ckpt"))
    writes.add(done.append, 4)
    writes.check()
    assert done == [0]
    gate.set()
    with pytest.raises(UserError, match=r"a\.ckpt cannot be written"):
        writes.wait()
    assert done == [0, 1, 2, 3]
    writes.stop()
    assert not writes.in_background


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_saves_resumes_bit_for_bit(train: Train, tokens: Tokens, tmp_path: Path) -> None:
    flush, dice, struck = atomic.make_durable, random.Random(0), 0
    saving = {"every_n_steps": 2, "keep": 1}
    whole = train(Plan(tmp_path / "whole", checkpointing=saving))

    def flush_slowly(file: Path) -> None:
        time.sleep(0.2)
        flush(file)

    def killed(plan: Plan) -> None:
        with mock.patch.object(atomic, "make_durable", flush_slowly):
            Run(plan, tokens).fit()

    def temporaries(run_dir: Path) -> list[Path]:
        return list((run_dir / "checkpoints").glob(".*"))

    for number in range(6):
        plan = in_background(tmp_path / str(number), checkpointing=saving)
        process = multiprocessing.get_context("fork").Process(target=killed, args=(plan,))
        process.start()
        while process.is_alive() and (folder.newest(plan.run_dir) is None or not temporaries(plan.run_dir)):
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.25))
        process.kill()
        process.join()
        struck += bool(temporaries(plan.run_dir))
        atomic.remove_temporaries(plan.run_dir / "checkpoints")  # as the next start does
        resumed = train(plan, resume=folder.newest(plan.run_dir))
        assert same_checkpoints(resumed, whole)
        assert resumed.rows() == whole.rows()
    assert struck > 1, "the kills have power"
