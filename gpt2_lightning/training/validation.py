"""Base of the LightningModules: validation loss, validation metrics, and their logging."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar

import lightning as L
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric

from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.weight_average import WeightAverage

EVAL_LOSS = "train/eval_loss"
"""Name of the loss of training samples in evaluation mode."""
RAW_VAL_LOSS = "val/raw_loss"
"""Name of the validation loss of the weights that are trained, where `val/loss` is that of their average."""
BatchT = TypeVar("BatchT")


class ValidationModule(L.LightningModule, Generic[BatchT]):
    """LightningModule that computes the mean loss and the metrics of a validation.

    Args:
        metrics: see `TrainingModule`.
    """

    def __init__(self, metrics: Mapping[str, Metric] | None = None) -> None:
        super().__init__()
        self.logs_itself = True
        """Whether losses and metrics are logged through Lightning; False under the `Metrics` callback."""
        self.metrics = nn.ModuleDict(dict(metrics or {}))
        self.logged: dict[Literal["train", "val"], set[str]] = {"train": set(), "val": set()}
        """Names that `log` leaves to the rows of the `Metrics` callback, by stage."""
        self.val_metrics: dict[str, float] = {}
        """Metrics of the latest validation, by name without the stage."""
        self.eval_train_batches: int | None = None
        """Micro-batches of the training part per rank whose loss each validation also computes; None for none."""
        self.train_eval_loss: float | None = None
        """Their mean loss in evaluation mode in the latest validation."""
        self.averages_weights = False
        """Whether the run averages its weights, which estimates and trials of memory count."""
        self.weight_average: WeightAverage | None = None
        """Average of the weights, which is validated and saved in their place; a callback sets it."""
        self.raw_val_loss: float | None = None
        """Loss of the weights that are trained in the latest validation, where their average is validated."""
        # The sum must be NaN if a loss is: the default strategy would drop NaN values.
        self._val_loss = SumMetric(nan_strategy="disable")
        self._val_count = SumMetric(nan_strategy="disable")

    @abstractmethod
    def validation_step(self, batch: BatchT, batch_idx: int) -> None: ...

    @abstractmethod
    def compute_metrics(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        """Compute the metrics of the batches since the last call.

        Args:
            stage: `train`, or `val` at the end of a validation.
            loss: the mean loss.

        Returns:
            Values by name without the stage.
        """

    def metric_names(self) -> list[str]:
        """Return the names of the logged metrics, as in `metrics.csv`; subclasses add theirs."""
        of_training = [EVAL_LOSS] if self.eval_train_batches is not None else []
        return ["train/loss", "val/loss", *of_training, *(f"val/{name}" for name in self.metrics)]

    @property
    def data(self) -> SampleDataModule:
        """The data module of the Trainer.

        Raises:
            UserError: if the Trainer has none of this package.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SampleDataModule):
            raise UserError(
                f"datamodule: {type(data).__name__} is no data module of gpt2_lightning; call trainer.fit(module, "
                "data) with a TokenDataModule, InstructDataModule or LabelDataModule"
            )
        return data

    def log(
        self, name: str, value: Any, prog_bar: bool = False, logger: bool | None = None, *args: Any, **more: Any
    ) -> None:
        """Log a value through Lightning. Under the `Metrics` callback it becomes part of that callback's rows."""
        if not self.logs_itself and logger is not False:
            self.logged["train" if self.trainer.training else "val"].add(name)
            logger = False  # Lightning would write a row of its own, with its count of batches as the step
        super().log(name, value, prog_bar, logger, *args, **more)

    def count_val_loss(self, total: Tensor, count: Tensor | int) -> None:
        """Add a sum of losses over `count` targets to the validation loss, which is their mean."""
        self._val_loss.update(total)
        self._val_count.update(count)

    def update_metrics(self, logits: Tensor, targets: Tensor) -> None:
        """Update the user's metrics with a validation batch."""
        for metric in self.metrics.values():
            metric.update(logits, targets)  # type: ignore[operator]  # nn.ModuleDict is not generic

    def on_validation_start(self) -> None:
        """Put the average in the place of the weights, after a validation of these."""
        self.raw_val_loss = None
        if (average := self.weight_average) is None:
            return
        if average.updates and average.validates_raw:
            # Sharded weights are gathered once, since ranks may have different numbers of batches.
            self.trainer.strategy.on_validation_start()
            batches = itertools.islice(self.data.val_dataloader(), int(self.trainer.num_val_batches[0]))
            self.raw_val_loss = self._mean_loss(batches)
            self.trainer.strategy.on_validation_end()
        average.apply()

    def on_validation_end(self) -> None:
        """Put the weights back in place of their average, when the callbacks have used it."""
        if self.weight_average is not None:
            self.weight_average.restore()

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss as `val_loss`, for callbacks, and compute the metrics of the whole validation.

        Afterwards compute the loss of training samples; see `eval_train_batches`.
        """
        loss = self._val_loss.compute() / self._val_count.compute()
        given = {name: float(metric.compute()) for name, metric in self.metrics.items()}  # type: ignore[operator]  # as above
        self.val_metrics = self.compute_metrics("val", float(loss)) | given
        # torchmetrics has already summed over all ranks; sync_dist only silences Lightning's warning.
        self.log("val_loss", loss, prog_bar=True, logger=None if self.logs_itself else False, sync_dist=True)
        if not self.logs_itself:
            self.log("val/loss", loss, logger=False, sync_dist=True)  # the key in metrics.csv, for callbacks as well
        else:
            self.log_dict({f"val_{name}": value for name, value in self.val_metrics.items()}, sync_dist=True)
        self._reset_validation()
        if self.weight_average is not None and self.weight_average.validates_raw:
            if not self.weight_average.updates:
                self.raw_val_loss = float(loss)
            if self.logs_itself and self.raw_val_loss is not None:
                self.log("val_raw_loss", self.raw_val_loss, sync_dist=True)
        if self.eval_train_batches is not None:
            # The first samples are a random part of the training data, and the same at every validation. As nanoGPT's
            # `estimate_loss`, apart from its samples, which are drawn anew.
            self.train_eval_loss = self._mean_loss(self.data.first_batches(self.eval_train_batches))
            if self.logs_itself:
                self.log("train_eval_loss", self.train_eval_loss, sync_dist=True)

    def _mean_loss(self, batches: Iterable[BatchT]) -> float:
        """Compute the loss of batches of this rank, and those of the others, as that of a validation."""
        strategy, precision = self.trainer.strategy, self.trainer.precision_plugin
        for index, batch in enumerate(batches):
            on_device = strategy.batch_to_device(precision.convert_input(batch))
            with precision.val_step_context():
                self.validation_step(on_device, index)
        loss = float(self._val_loss.compute() / self._val_count.compute())
        self.compute_metrics("val", loss)  # which resets metrics that are computed batch by batch
        self._reset_validation()
        return loss

    def _reset_validation(self) -> None:
        for metric in (self._val_loss, self._val_count, *self.metrics.values()):
            metric.reset()  # type: ignore[operator]  # as above
