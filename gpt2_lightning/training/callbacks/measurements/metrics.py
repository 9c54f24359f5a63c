"""The callback that logs rows of metrics."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L

from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.measurements.metric_names import announced, known_names, require_logged
from gpt2_lightning.training.callbacks.measurements.throughput import METRICS, ThroughputMeter, duration
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.metrics.monitor import VAL_LOSS, Monitor
from gpt2_lightning.training.precision import Precision
from gpt2_lightning.training.validation import EVAL_LOSS, RAW_VAL_LOSS

log = logging.getLogger(__name__)


class Metrics(L.Callback):
    """Log a row of metrics every n optimizer steps and at every validation.

    Losses stay tensors between rows, so that the device is synchronized once per row. Training losses are means over
    the steps since the last row. `ThroughputMeter` measures the speed of training. Values that a module or a
    callback logs through Lightning are added to the row of their step.

    The values of one metric judge the run, for the callbacks that save the best checkpoint or stop training. Metrics of
    training rows are judged at validations.

    Args:
        every_n_steps: optimizer steps between two rows.
        precision: see `ThroughputMeter`.
        monitor: the metric that judges the run; None for the validation loss.
    """

    def __init__(self, every_n_steps: int, precision: Precision = "fp32", monitor: Monitor | None = None) -> None:
        self.every_n_steps = every_n_steps
        self.monitor = monitor or Monitor()
        self.measured: float | None = None
        """Value of the monitored metric, if it was measured at the current step; equal on all ranks."""
        self.is_best = False
        """Whether that value is the best so far."""
        self.best: float | None = None
        """Best value of the monitored metric."""
        self.best_step: int | None = None
        """Step of the best value; None where an earlier version has saved it without its step."""
        self.throughput = ThroughputMeter(precision)
        self.latest: dict[str, float] = {}
        """Latest value of every key."""
        self.best_val_loss = float("inf")
        self._training_row: dict[str, float] = {}
        self._step_of_last_row = 0

    @staticmethod
    def of(trainer: L.Trainer) -> Metrics:
        """Return the callback of a Trainer."""
        return next(one for one in trainer.callbacks if isinstance(one, Metrics))  # type: ignore[attr-defined]  # set by Lightning's connector

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _task(trainer).logs_itself = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to measure the throughput.

        Raises:
            UserError: if nothing in this run logs the monitored metric.
        """
        if (names := known_names(trainer)) is not None:
            require_logged(self.monitor.metric, names)
        self._step_of_last_row = trainer.global_step
        self.throughput.begin(trainer, _task(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.throughput.count(batch)
        self.measured, self.is_best = None, False

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
        task, loss = _task(trainer), float(trainer.callback_metrics["val_loss"])
        row = self._log(trainer, "val", loss)
        _require_finite("validation", loss, trainer)
        self._judge(trainer, self._training_row | row)
        require_logged(self.monitor.metric, [*self.latest, *announced(trainer)])
        self.best_val_loss = min(self.best_val_loss, loss)
        raw = "" if task.raw_val_loss is None else f" ({task.raw_val_loss:.4f} without averaging)"
        shown = [task.headline, *task.metrics]
        figures = [f"{self.latest[f'val/{name}']:.3f} {name.replace('_', ' ')}" for name in shown]
        figures.insert(0, f"validation loss {loss:.4f}{raw}")
        if EVAL_LOSS in self.latest:
            figures.insert(0, f"training loss in evaluation mode {self.latest[EVAL_LOSS]:.4f}")
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
        best = {} if self.best is None else {self.monitor.metric: [self.best, self.best_step]}
        return {"best_val_loss": self.best_val_loss, "latest": validated, "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best values; the best value of another monitored metric does not count."""
        self.best_val_loss = state_dict["best_val_loss"]
        self.latest = dict(state_dict.get("latest", {}))
        best = state_dict.get("best") or {VAL_LOSS: [self.best_val_loss, None]}
        value, self.best_step = best.get(self.monitor.metric, (None, None))
        self.best = value if value is not None and math.isfinite(value) else None

    def metric_names(self) -> list[str]:
        """Return the names of metrics beside those of the module; see `LogsMetrics`."""
        return ["lr", "grad_norm", *METRICS]

    def log_measured(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        """Log a row of values that were measured at this step outside of a validation.

        Args:
            trainer: the Trainer.
            values: values by name, on all ranks; all of a measurement, so that a monitored metric that it lacks but
                should have is known to be unknown.

        Raises:
            UserError: if the monitored metric is in the folder of these values and is none of them.
        """
        data = _task(trainer).data
        self._log_row(trainer, {"tokens": data.tokens_seen, "epoch": data.epochs_seen, **values})
        folder, metric = self.monitor.metric.rpartition("/")[0], self.monitor.metric
        if metric not in values and any(name.rpartition("/")[0] == folder for name in values):
            require_logged(metric, self.latest)
        self._judge(trainer, values)

    def _judge(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        name = self.monitor.metric
        if name not in values:
            return
        self.measured = distributed.broadcast(lambda: values[name])  # ranks may differ, as in speed
        self.is_best = self.monitor.improves(self.measured, self.best)
        if self.is_best:
            self.best, self.best_step = self.measured, trainer.global_step

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
        self._training_row = self._log(trainer, "train", loss, figures)
        _require_finite("training", loss, trainer)
        self.throughput.go_on()

    def _log(
        self, trainer: L.Trainer, stage: Literal["train", "val"], loss: float, more: dict[str, float] | None = None
    ) -> dict[str, float]:
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
        if stage == "val" and task.train_eval_loss is not None:
            row[EVAL_LOSS] = task.train_eval_loss
        if stage == "val" and task.raw_val_loss is not None:
            row[RAW_VAL_LOSS] = task.raw_val_loss
        self._log_row(trainer, row)
        return row

    def _log_row(self, trainer: L.Trainer, row: dict[str, float]) -> None:
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
