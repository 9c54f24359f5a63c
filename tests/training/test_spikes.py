"""Loss spikes: detection, and a guard that undoes planted ones."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import SpikeGuard
from gpt2_lightning.training.spikes import RollBack, Spike, SpikeDetector
from tests.outcomes import Outcome
from tests.training.short_run import CONFIG, Plan, Run, same_tensors
from tests.training.two_processes import on_two_processes

STEPS, STEP = 48, 33
"""Steps of a run, and the one that reads the planted samples."""
SKIPPED = 4
DROPOUT = dataclasses.replace(CONFIG, embd_pdrop=0.1, resid_pdrop=0.1)


class Recorded(Samples[Batch]):
    """Samples that note which numbers are read, and whether a planted one is among those of the present step."""

    def __init__(self, samples: Samples[Batch], planted: range) -> None:
        self.samples, self.planted = samples, planted
        self.per_epoch, self.targets_per_sample = samples.per_epoch, samples.targets_per_sample
        self.bad: list[torch.Tensor] = []

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        batch = self.samples.read(numbers)
        if any(int(number) in self.planted for number in numbers):
            self.bad.append(batch.inputs)
        return batch


class Plant(L.Callback):
    """Change the weights at the end of the step of a planted sample: scale them, or make them NaN."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._is_bad = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        _, batch, batch_idx = args
        samples = trainer.datamodule.samples  # type: ignore[attr-defined]  # set in fit
        self._is_bad |= any(torch.equal(batch.inputs, bad) for bad in samples.bad)
        if self._is_bad and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._is_bad = False
            for parameter in pl_module.parameters():
                parameter.data.mul_(self.factor)


def plan_of(run_dir: Path, seed: int, *callbacks: L.Callback, micro_batch_size: int = 6, log_every: int = 3) -> Plan:
    return Plan(
        run_dir,
        max_steps=STEPS,
        model=DROPOUT,
        micro_batch_size=micro_batch_size,
        trainer={"val_check_interval": 16, "log_every_n_steps": log_every},
        checkpointing={"every_n_steps": 5, "keep": 2},
        callbacks=callbacks,
        seed=seed,
    )


def guarded(
    tokens: Tokens, run_dir: Path, seed: int, factor: float, guard: dict[str, int] | None, **more: Any
) -> tuple[Run, int]:
    """Train as the program does, with the samples of step `STEP` planted; return the run and the rollbacks."""
    planted, checkpoint, io = range((STEP - 1) * 6, STEP * 6), None, None
    for rollbacks in range(20):
        callbacks = [SpikeGuard(run_dir, **{"skip_steps": SKIPPED, **guard})] if guard is not None else []
        run = Run(plan_of(run_dir, seed, *callbacks, Plant(factor), **more), tokens)
        run.data.samples = Recorded(run.data.samples, planted)
        if io is not None:
            io.preload(run.checkpoint_io)
        try:
            return run.fit(checkpoint), rollbacks
        except RollBack as back:
            checkpoint, io = back.checkpoint, back
    raise AssertionError("a guard is bounded")


def without_the_samples(tokens: Tokens, run_dir: Path, seed: int, **more: Any) -> Run:
    """A run whose sequence of samples never had those of the skipped steps, and that never goes back."""

    class Shorter(Samples[Batch]):
        def __init__(self, samples: Samples[Batch]) -> None:
            self.samples = samples
            self.per_epoch, self.targets_per_sample = samples.per_epoch, samples.targets_per_sample

        def read(self, numbers: NDArray[np.int64]) -> Batch:
            left = [number for number in range(10_000) if not (STEP - 1) * 6 <= number < (STEP - 1 + SKIPPED) * 6]
            return self.samples.read(np.array(left)[numbers])

    run = Run(plan_of(run_dir, seed, **more), tokens)
    run.data.samples = Shorter(run.data.samples)
    return run.fit()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_a_planted_spike_is_undone_as_if_its_samples_had_never_been(
    tokens: Tokens, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The weights change in step 33 and the loss jumps in step 34, of which 33 to 36 are skipped."""
    with caplog.at_level(logging.WARNING):
        run, rollbacks = guarded(tokens, tmp_path / "guarded", seed, 30.0, {})
    assert rollbacks == 1
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("spike")]
    assert f"at step {STEP + 1}" in line
    assert f"back to step-000030.ckpt, without the samples of steps {STEP} to {STEP + 3} (rollback 1 of at most" in line
    expected = without_the_samples(tokens, tmp_path / "expected", seed)
    assert run.rows() == expected.rows()
    ours, theirs = (each.checkpoint(f"step-{STEPS:06d}.ckpt") for each in (run, expected))
    for part in ("state_dict", "optimizer_states", "random_states", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part
    spoiled, _ = guarded(tokens, tmp_path / "spoiled", seed, 30.0, None)
    last = run.column("train/loss")[STEPS]
    assert spoiled.column("train/loss")[STEPS] > last + 1, "without the guard the spike stays"


@pytest.mark.parametrize(("micro_batch_size", "log_every"), [(2, 3), (6, 16), (6, 1)])
def test_nan_is_undone_with_accumulation_and_wherever_it_is_read(
    tokens: Tokens, tmp_path: Path, micro_batch_size: int, log_every: int
) -> None:
    """Rows every 16 steps read the loss of step 34 late; the checkpoint of step 35 must not be saved before."""
    more = {"micro_batch_size": micro_batch_size, "log_every": log_every}
    run, rollbacks = guarded(tokens, tmp_path / "guarded", 1, math.nan, {}, **more)
    expected = without_the_samples(tokens, tmp_path / "expected", 1, **more)
    assert rollbacks == 1
    assert run.rows() == expected.rows()
    assert same_tensors(run.model.state_dict(), expected.model.state_dict())


def test_a_resumed_run_skips_the_same_samples(tokens: Tokens, tmp_path: Path) -> None:
    run, _ = guarded(tokens, tmp_path / "whole", 2, 30.0, {})
    checkpoint = run.run_dir / "checkpoints" / "step-000045.ckpt"
    resumed = Run(plan_of(tmp_path / "resumed", 2), tokens).fit(checkpoint)
    assert same_tensors(resumed.model.state_dict(), run.model.state_dict())


def test_without_a_guard_nan_ends_the_run_and_its_step_is_named(
    tokens: Tokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="the training loss is nan at step 36: the run has diverged"):
        guarded(tokens, tmp_path, 0, math.nan, None)
    assert "spike: the training loss is nan at step 34; the 33 steps before had a median of" in caplog.text


def test_a_guard_without_an_earlier_checkpoint_says_so_and_goes_on(
    tokens: Tokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = SpikeGuard(tmp_path)
    run = Run(
        dataclasses.replace(plan_of(tmp_path, 0, guard, Plant(30.0)), checkpointing={"every_n_steps": 99}), tokens
    )
    run.data.samples = Recorded(run.data.samples, range((STEP - 1) * 6, STEP * 6))
    run.fit()
    assert "no checkpoint before it is left, so the run continues" in caplog.text


class Always(L.Callback):
    """Spoil the weights in a step, whatever its samples are."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == STEP:
            for parameter in pl_module.parameters():
                parameter.data.fill_(math.nan)


def test_spikes_that_other_samples_do_not_prevent_end_the_run_with_all_checkpoints(
    tokens: Tokens, tmp_path: Path
) -> None:
    """Each rollback skips the samples of the earlier ones and more."""
    plan = plan_of(tmp_path, 0, Always())
    back, skipped = None, []
    for _ in range(2):
        back = _spoiled(plan, tokens, back).value
        assert isinstance(back, RollBack)
        skipped.append(back.skipped)
    assert skipped == [[(192, 24)], [(192, 24), (192, 24)]]
    end = _spoiled(plan, tokens, back)
    assert end.match("max_rollbacks: the training loss is nan at step 34.*, after 2 rollbacks")
    assert {"best.ckpt", "step-000025.ckpt", "step-000030.ckpt"} == {
        file.name for file in (tmp_path / "checkpoints").iterdir()
    }


def _spoiled(plan: Plan, tokens: Tokens, back: RollBack | None) -> pytest.ExceptionInfo[Exception]:
    guard = SpikeGuard(plan.run_dir, skip_steps=SKIPPED, max_rollbacks=2)
    run = Run(dataclasses.replace(plan, callbacks=[guard, *plan.callbacks]), tokens)
    if back is not None:
        back.preload(run.checkpoint_io)
    with pytest.raises((RollBack, UserError)) as raised:
        run.fit(back.checkpoint if back else None)
    return raised


def _in_two_processes(folder: Path, tokens: Tokens) -> list[Any]:
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    more = {"micro_batch_size": 3}
    run, rollbacks = guarded(tokens, folder / "guarded", 3, 30.0, {}, **more)
    state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    expected = without_the_samples(tokens, folder / "expected", 3, **more)
    same = same_tensors(state, expected.model.state_dict())
    rows = not distributed.is_rank_zero() or run.rows() == expected.rows()
    distributed.leave()
    return [rollbacks, same, rows]


@pytest.mark.slow
def test_two_processes_go_back_together(tokens: Tokens, tmp_path: Path) -> None:
    results = on_two_processes(_in_two_processes, tmp_path / "logs", tmp_path, tokens)
    assert list(results.values()) == [[1, True, True], [1, True, True]]


@pytest.mark.slow
def test_the_program_undoes_a_spike_and_writes_no_step_twice(
    run_verb: Callable[..., Outcome], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(detector: SpikeDetector, step: int, loss: float, original: Any = SpikeDetector.judge) -> Spike | None:
        found = original(detector, step, loss)
        planted.append(step)
        return Spike(step, 99.0, 3.0, 0.1, step - 1) if step == 9 and planted.count(9) == 1 else found

    planted: list[int] = []
    monkeypatch.setattr(SpikeDetector, "judge", judge)
    outcome = run_verb(
        "train", "callbacks=spike_guard", "callbacks.checkpoint.every_n_steps=3", "callbacks.spike_guard.skip_steps=2",
        "trainer.max_steps=12", "trainer.log_every_n_steps=2", "model=tiny", "batch_size=2", "run_dir=run",
        "logger=[csv,tensorboard]", "trainer.val_check_interval=6",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    said = "at step 9; the 8 steps before had a median of 3 ± 0.1: back to step-000006.ckpt, without the samples"
    assert said in outcome.out + outcome.err
    with Path("run/metrics.csv").open(encoding="utf-8") as file:
        steps = [(int(row["step"]), bool(row["val/loss"])) for row in csv.DictReader(file)]
    assert sorted(steps) == steps
    assert len(set(steps)) == len(steps) == 8
    state = torch.load("run/checkpoints/step-000012.ckpt", weights_only=True)["TokenDataModule"]
    assert state == {"samples_seen": 24, "step": 12, "skipped": [[14, 4]]}


@pytest.mark.parametrize("seed", range(5))
def test_losses_that_fall_and_scatter_are_no_spikes(seed: int) -> None:
    """Of a language model that learns, and of a classifier, whose losses are log-normal."""
    dice = random.Random(seed)
    falling, classifier = SpikeDetector(), SpikeDetector()
    assert not any(falling.judge(n, 2 + 2.3 * math.exp(-n / 50) + dice.gauss(0, 0.05)) for n in range(2000))
    assert sum(classifier.judge(n, math.exp(dice.gauss(-2, 1))) is not None for n in range(2000)) <= 10


def test_a_jump_is_one_spike_and_a_fall_none() -> None:
    dice = random.Random(0)
    losses = [*(2 + dice.gauss(0, 0.05) for _ in range(100)), *(3 + dice.gauss(0, 0.05) for _ in range(100))]
    losses += [1 + dice.gauss(0, 0.05) for _ in range(100)]
    detector = SpikeDetector()
    found = [spike for step, loss in enumerate(losses, 1) if (spike := detector.judge(step, loss)) is not None]
    assert [spike.step for spike in found] == [101]
    assert found[0].median == pytest.approx(2, abs=0.02)
    assert found[0].spread == pytest.approx(0.05, abs=0.02)


def test_a_loss_that_is_not_finite_is_a_spike_from_the_first_step_on() -> None:
    detector = SpikeDetector()
    assert str(detector.judge(1, math.nan)) == "the training loss is nan at step 1"
    assert detector.judge(2, 4.0) is None
    assert detector.judge(3, math.inf) is not None
    assert detector.losses == [4.0]
