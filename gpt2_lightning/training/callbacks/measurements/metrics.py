"""The callback that logs rows of metrics."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import lightning as L

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.callbacks.measurements.throughput import ThroughputMeter, duration
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.precision import Precision

log = logging.getLogger(__name__)


class Metrics(L.Callback):
    """Log a row of metrics every n optimizer steps and at every validation.

    Losses stay tensors between rows, so that the device is synchronized once per row. Training losses are means over
    the steps since the last row. `ThroughputMeter` measures the speed of training. Values that a module or a
    callback logs through Lightning are added to the row of their step.

    Args:
        every_n_steps: optimizer steps between two rows.
        precision: see `ThroughputMeter`.
    """

    def __init__(self, every_n_steps: int, precision: Precision = "fp32") -> None:
        self.every_n_steps = every_n_steps
        self.throughput = ThroughputMeter(precision)
        self.latest: dict[str, float] = {}
        """Latest value of every key."""
        self.best_val_loss = float("inf")
        self._step_of_last_row = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _task(trainer).logs_itself = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._step_of_last_row = trainer.global_step
        self.throughput.begin(trainer, _task(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.throughput.count(batch)

    def on_validation_start(self, *_: Any) -> None:
        self.throughput.pause()

    def on_save_checkpoint(self, *_: Any) -> None:
        self.throughput.pause()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._step_of_last_row:
            self._log_training(trainer, _task(trainer))
            self._step_of_last_row = step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        self._log(trainer, "val", loss)
        _require_finite("validation", loss, trainer)
        self.best_val_loss = min(self.best_val_loss, loss)
        headline = _task(trainer).headline
        figures = [f"validation loss {loss:.4f}", f"{self.latest[f'val/{headline}']:.3f} {headline.replace('_', ' ')}"]
        figures += [f"{self.latest[f'val/{name}']:.3f} {name.replace('_', ' ')}" for name in _task(trainer).metrics]
        if "train/loss" in self.latest:
            figures.insert(0, f"training loss {self.latest['train/loss']:.4f}")
            figures.append(f"{self.latest['tokens_per_second']:,.0f} tokens/s")
            if trainer.global_step < trainer.max_steps:
                figures.append(f"{duration(self.latest['seconds_left'])} left")
        log.info("step %s of %s: %s", f"{trainer.global_step:,}", f"{trainer.max_steps:,}", ", ".join(figures))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.throughput.end(trainer, _task(trainer))

    def state_dict(self) -> dict[str, Any]:
        validated = {key: value for key, value in self.latest.items() if key.startswith("val/")}
        return {"best_val_loss": self.best_val_loss, "latest": validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_val_loss = state_dict["best_val_loss"]
        self.latest = dict(state_dict.get("latest", {}))

    def _log_training(self, trainer: L.Trainer, module: TrainingModule[Any, Any]) -> None:
        loss = module.mean_over_ranks(module.train_losses)
        module.train_losses.clear()
        # Of several groups with one rate, the first is logged: later ones may be exceptions with another scale.
        groups = reversed(trainer.optimizers[0].param_groups)
        figures = {group.get("rate", "lr"): group["lr"] for group in groups}
        if module.gradient_norm is not None:
            figures["grad_norm"] = float(module.gradient_norm)
        if module.skipped_steps is not None:
            figures["skipped_steps"] = module.skipped_steps
        figures |= self.throughput.figures(trainer, module)
        self._log(trainer, "train", loss, figures)
        _require_finite("training", loss, trainer)
        self.throughput.go_on()

    def _log(
        self, trainer: L.Trainer, stage: Literal["train", "val"], loss: float, more: dict[str, float] | None = None
    ) -> None:
        task, data = _task(trainer), _task(trainer).data
        metrics = task.val_metrics if stage == "val" else task.compute_metrics(stage, loss)
        row = {
            "tokens": data.tokens_seen,
            "epoch": data.epochs_seen,
            f"{stage}/loss": loss,
            **{f"{stage}/{name}": value for name, value in metrics.items()},
            **(more or {}),
        }
        found = trainer.callback_metrics
        row |= {name: float(found[name]) for name in sorted(task.logged[stage]) if name in found}
        self.latest |= row
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)


def _require_finite(part: str, loss: float, trainer: L.Trainer) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the {part} loss is {loss} at step {trainer.global_step:,}: the run has diverged. Go on from an earlier "
            "checkpoint, or start again, with a lower optimizer.lr; the checkpoints saved so far are kept"
        )


def _task(trainer: L.Trainer) -> TrainingModule[Any, Any]:
    assert isinstance(trainer.lightning_module, TrainingModule)
    return trainer.lightning_module
