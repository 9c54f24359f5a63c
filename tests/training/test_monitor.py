"""The metric that judges a run: for the best checkpoint, early stopping and the value of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torchmetrics import Metric

from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.callbacks import EarlyStopping
from gpt2_lightning.training.metrics.monitor import Monitor, mode_of
from gpt2_lightning.training.validation import EVAL_LOSS
from tests.training.short_run import Plan, Run

Train = Callable[..., Run]
ACCURACY = Monitor("val/accuracy", "max")


class Scripted(Metric):
    """A metric with the given value at each validation."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = list(values)

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """The data do not matter."""

    def compute(self) -> torch.Tensor:
        return torch.tensor(self.values.pop(0))


def plan(folder: Path, *values: float, **more: Any) -> Plan:
    return Plan(folder, metrics={"accuracy": Scripted(*values)}, **{"monitor": ACCURACY, **more})


def test_the_best_checkpoint_has_the_best_accuracy_and_not_the_lowest_loss(train: Train, tmp_path: Path) -> None:
    run = train(plan(tmp_path, 0.25, 0.5, 0.375))
    losses = run.column("val/loss")
    assert min(losses, key=losses.__getitem__) == 12
    assert run.checkpoint("best.ckpt")["global_step"] == 8
    assert (run.metrics.best, run.metrics.best_step) == (0.5, 8)
    assert run.metrics.best_val_loss == pytest.approx(losses[12])


def test_training_stops_where_the_accuracy_has_not_improved(train: Train, tmp_path: Path) -> None:
    stop = EarlyStopping(patience=2)
    run = train(plan(tmp_path, 0.1, 0.5, 0.4, 0.5, 0.9, max_steps=40, callbacks=[stop]))
    assert run.trainer.global_step == 16
    assert run.checkpoint("best.ckpt")["global_step"] == 8
    assert run.checkpoint("step-000016.ckpt")["stopped_early"]


def test_patience_goes_on_in_a_resumed_run(train: Train, tmp_path: Path) -> None:
    train(plan(tmp_path, 0.1, 0.5, 0.4, callbacks=[EarlyStopping(patience=2)]))
    again = plan(tmp_path, 0.45, 0.9, max_steps=40, callbacks=[EarlyStopping(patience=2)])
    run = train(again, resume=tmp_path / "checkpoints" / "step-000012.ckpt")
    assert run.trainer.global_step == 16
    assert (run.metrics.best, run.metrics.best_step) == (0.5, 8)


def test_another_metric_begins_anew_in_a_resumed_run(train: Train, tmp_path: Path) -> None:
    train(Plan(tmp_path, callbacks=[EarlyStopping()]))
    later = plan(tmp_path, 0.1, max_steps=16, callbacks=[EarlyStopping(patience=1)])
    run = train(later, resume=tmp_path / "checkpoints" / "step-000012.ckpt")
    assert run.checkpoint("best.ckpt")["global_step"] == 16, "0.1 is no loss to compare with"


def test_a_checkpoint_of_an_earlier_version_resumes_with_its_lowest_loss(train: Train, tmp_path: Path) -> None:
    before = train(Plan(tmp_path, callbacks=[EarlyStopping()]))
    file = tmp_path / "checkpoints" / "step-000012.ckpt"
    content = torch.load(file, weights_only=True)
    del content["callbacks"]["Metrics"]["best"]
    content["callbacks"]["Metrics"]["best_val_loss"] = 0.5
    content["callbacks"]["Checkpointing"] = {"lowest_val_loss": 0.5}
    stop = {"wait_count": 1, "stopped_epoch": 0, "best_score": torch.tensor(0.5), "patience": 3}
    content["callbacks"]["EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"] = stop
    torch.save(content, file)
    run = train(Plan(tmp_path, max_steps=40, callbacks=[EarlyStopping(patience=3)]), resume=file)
    assert run.trainer.global_step == 20, "one validation before it and two after"
    assert run.metrics.best == 0.5
    assert run.checkpoint("best.ckpt")["global_step"] == before.checkpoint("best.ckpt")["global_step"]


def test_a_metric_of_training_rows_is_judged_at_validations(train: Train, tmp_path: Path) -> None:
    run = train(Plan(tmp_path, monitor=Monitor("train/loss")))
    logged = run.column("train/loss")
    at = {step: logged[step] for step in (4, 8, 12)}
    assert run.metrics.best == pytest.approx(min(at.values()))
    assert run.checkpoint("best.ckpt")["global_step"] == min(at, key=at.__getitem__)


def test_a_metric_that_is_no_number_is_never_the_best(train: Train, tmp_path: Path) -> None:
    run = train(plan(tmp_path, 0.25, float("nan"), 0.125))
    assert (run.metrics.best, run.metrics.best_step) == (0.25, 4)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("val/accuracy", r"monitor: val/accuracy is none of the metrics .* They are .*val/bits_per_byte.*, val/loss"),
        ("val/los", r"monitor: val/los is none of the metrics that can judge this run; did you mean val/loss\?"),
        (EVAL_LOSS, r"monitor: train/eval_loss is none of the metrics"),
    ],
)
def test_a_metric_that_is_never_logged_is_refused_before_training(
    metric: str, message: str, tokens: Tokens, tmp_path: Path
) -> None:
    run = Run(Plan(tmp_path, monitor=Monitor(metric)), tokens)
    with pytest.raises(UserError, match=message):
        run.fit()
    assert run.trainer.global_step == 0


class Own(L.Callback):
    """A callback of the user's, which may log anything."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("val/own", float(trainer.global_step))


def test_with_a_callback_of_ones_own_it_is_refused_at_the_first_validation(
    train: Train, tokens: Tokens, tmp_path: Path
) -> None:
    refused = Run(Plan(tmp_path / "refused", monitor=Monitor("val/owl"), callbacks=[Own()]), tokens)
    with pytest.raises(UserError, match=r"val/owl is none of .*; did you mean val/own\?"):
        refused.fit()
    assert refused.trainer.global_step == 4
    run = train(Plan(tmp_path / "taken", monitor=Monitor("val/own", "max"), callbacks=[Own()]))
    assert run.metrics.best == 12


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("val/loss", "min"),
        ("train/eval_loss", "min"),
        ("val/perplexity", "min"),
        ("val/bits_per_byte", "min"),
        ("val/mae", "min"),
        ("val/accuracy", "max"),
        ("val/top5_accuracy", "max"),
        ("val/macro_f1", "max"),
        ("val/exact_match", "max"),
        ("benchmarks/hellaswag/acc_norm", "max"),
        ("benchmarks/lambada/perplexity", "min"),
        ("benchmarks/wikitext2/word_perplexity", "min"),
    ],
)
def test_the_name_of_a_metric_says_which_values_are_better(metric: str, mode: str) -> None:
    assert mode_of(metric) == mode
    assert mode_of(metric, "max") == "max"


def test_a_name_that_does_not_say_it_needs_a_mode() -> None:
    with pytest.raises(UserError, match=r"monitor_mode: auto does not know .* monitor=attention/induction/max"):
        mode_of("attention/induction/max")


def test_eval_loss_is_that_of_a_loop_over_the_first_training_samples(
    train: Train, tokens: Tokens, tmp_path: Path
) -> None:
    """In evaluation mode, at any time, and with nothing of the training changed."""
    run = train(Plan(tmp_path / "with", trainer={"eval_train_batches": 2}))
    found = run.column(EVAL_LOSS)
    assert sorted(found) == [4, 8, 12]
    for step in found:
        weights = run.checkpoint(f"step-{step:06d}.ckpt")["state_dict"]
        run.model.load_state_dict(weights)
        run.model.eval()
        losses = []
        for first in (0, 6):
            batch = run.data.samples.read(torch.arange(first, first + 6).numpy())
            with torch.no_grad():
                logits = run.model(batch.inputs)
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()))
        assert found[step] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    without = train(Plan(tmp_path / "without"))
    for name in ("train/loss", "val/loss", "val/perplexity"):
        assert without.column(name) == run.column(name)
    assert EVAL_LOSS not in without.rows()[0]


def test_eval_loss_can_judge_a_run(train: Train, tmp_path: Path) -> None:
    run = train(Plan(tmp_path, monitor=Monitor(EVAL_LOSS), trainer={"eval_train_batches": 1}))
    assert run.metrics.best == pytest.approx(min(run.column(EVAL_LOSS).values()))
