"""The callbacks that average the weights of a run."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

import lightning as L
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from gpt2_lightning.checkpoints.content import WEIGHT_AVERAGE
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PositiveInt, PositiveShare, ProperShare, checked
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy, gather
from gpt2_lightning.training.validation import RAW_VAL_LOSS
from gpt2_lightning.training.weight_average import Update, WeightAverage

log = logging.getLogger(__name__)


class WeightAveraging(L.Callback):
    """Base of the callbacks that average the trainable weights after every optimizer step.

    The average is the model of the run: validations, benchmarks and samples measure it, and it is the `state_dict` of
    checkpoints. The weights that are trained are beside it, for a resume, and their validation loss is
    `val/raw_loss`. At the end of training the module has the average.

    Args:
        validate_raw: whether validations also compute the loss of the weights that are trained.
    """

    method: str
    """Name of the method in checkpoints."""

    def __init__(self, validate_raw: bool = True) -> None:
        self.validate_raw = validate_raw
        self._saved: dict[str, Any] | None = None
        self._average: WeightAverage | None = None
        self._last_seen_step = 0

    @abstractmethod
    def update(self, step: int, total_steps: int, updates: int) -> Update | None:
        """Return the function that adds the weights of a step to the average; None if they are not averaged.

        Args:
            step: the optimizer step, from 1.
            total_steps: optimizer steps of the run.
            updates: number of weights averaged so far.
        """

    def metric_names(self) -> list[str]:
        """Return the names of the logged metrics; see `LogsMetrics`."""
        return [RAW_VAL_LOSS] if self.validate_raw else []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that this callback is the only one of its kind.

        Raises:
            UserError: if there is another.
        """
        found = [one for one in trainer.callbacks if isinstance(one, WeightAveraging)]  # type: ignore[attr-defined]  # set by Lightning's connector
        if len(found) > 1:
            methods = " and ".join(one.method for one in found)
            raise UserError(f"callbacks: {methods} exclude each other, since a run has one average; remove one")

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(WEIGHT_AVERAGE)
        self._saved = saved if saved is not None and saved["method"] == self.method else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._average = WeightAverage(pl_module, self.method, self.validate_raw, self._saved)
        self._saved = None
        self._last_seen_step = trainer.global_step
        pl_module.weight_average = self._average

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TrainingModule)
        if self._average is None or trainer.global_step == self._last_seen_step:
            return
        self._last_seen_step = step = trainer.global_step
        if (update := self.update(step, pl_module.total_steps, self._average.updates)) is None:
            self._average.reset()
        else:
            self._average.add(update)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights of the checkpoint, and those of the step beside it."""
        if self._average is None or not self._average.updates:
            return
        saved = self._average.to_plain(pl_module)
        if isinstance(trainer.strategy, ShardedStrategy):
            saved = gather(saved)
        if saved:
            dtypes = {name: tensor.dtype for name, tensor in saved["trained"].items()}
            checkpoint["state_dict"] |= {name: saved["average"][name].to(dtype) for name, dtype in dtypes.items()}
            checkpoint[WEIGHT_AVERAGE] = saved


class EMAWeightAveraging(WeightAveraging):
    """Average the weights exponentially, from the first step on.

    The decay grows with the number of steps n as (1 + n) / (10 + n) up to its final value, so that the average spans
    about the last tenth of a beginning run (as TensorFlow's `ExponentialMovingAverage` with `num_updates`).

    Args:
        decay: final weight of the average in a step; 1 / (1 - decay) is about the number of averaged steps.
        validate_raw: see `WeightAveraging`.

    Raises:
        ValueError: if the decay is not between 0 and 1.
    """

    method = "ema"

    @checked
    def __init__(self, decay: ProperShare = 0.999, validate_raw: bool = True) -> None:
        super().__init__(validate_raw)
        self.decay = decay

    def update(self, step: int, total_steps: int, updates: int) -> Update:
        update: Update = get_ema_multi_avg_fn(min(self.decay, (1 + updates) / (10 + updates)))
        return update


class UniformWeightAveraging(WeightAveraging):
    """Average the weights of the last steps of a run with equal weights (Izmailov et al. 2018, "SWA").

    Until then, a run is one without averaging.

    Args:
        last_fraction: fraction of the run's steps that are averaged.
        start_step: step from which weights are averaged, in place of `last_fraction`; None for that.
        validate_raw: see `WeightAveraging`.

    Raises:
        ValueError: if a value is out of range.
    """

    method = "average"

    @checked
    def __init__(
        self, last_fraction: PositiveShare = 0.2, start_step: PositiveInt | None = None, validate_raw: bool = True
    ) -> None:
        super().__init__(validate_raw)
        self.last_fraction, self.start_step = last_fraction, start_step

    def update(self, step: int, total_steps: int, updates: int) -> Update | None:
        first = self.start_step
        if first is None:
            first = total_steps + 1 - max(1, round(self.last_fraction * total_steps))
        if step < first:
            return None
        update: Update = get_swa_multi_avg_fn()
        return update
