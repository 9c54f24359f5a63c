"""What every training task shares: one optimizer, its schedule, and checkpoints that are enough by themselves."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from typing import Any, Generic, Literal, TypeVar

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from gpt2_lightning.checkpoints.content import ADAPTER, KEY, Description, adapter_alone
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.training import distributed, random_state
from gpt2_lightning.training.optimizers import OptimizerSpec
from gpt2_lightning.training.precision import Float16
from gpt2_lightning.training.schedules import Schedule
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy, require_sharding_support, whole

log = logging.getLogger(__name__)

_PREFIX = "model."
ModelT = TypeVar("ModelT", bound=nn.Module)
BatchT = TypeVar("BatchT")


class TrainingModule(L.LightningModule, Generic[ModelT, BatchT]):
    """Trains a network. A subclass says what happens to a batch.

    Args:
        model: the network.
        optimizer: makes the optimizer, and holds the peak learning rate.
        schedule: scales it.
        description: goes into every checkpoint, which is then enough by itself.
    """

    headline: str
    """The figure that is shown beside the loss."""

    def __init__(self, model: ModelT, optimizer: OptimizerSpec, schedule: Schedule, description: Description) -> None:
        super().__init__()
        self.model = model
        self.optimizer_spec = optimizer
        self.schedule = schedule
        self.description = description
        self.train_losses: list[Tensor] = []
        """Losses of the micro-batches since the last row of metrics, which clears the list."""
        self.gradient_norm: Tensor | None = None
        """Norm of all gradients together in the last optimizer step, before clipping."""
        # A sum of losses that are not a number must stay one: the default strategy would leave them out.
        self._val_loss = SumMetric(nan_strategy="disable")
        self._val_count = SumMetric(nan_strategy="disable")
        self._random_state: random_state.State | None = None
        # An adapter's checkpoint holds the adapter alone; what it adapts is there already.
        self.strict_loading = ADAPTER not in description.task

    @abstractmethod
    def training_step(self, batch: BatchT, batch_idx: int) -> Tensor: ...

    @abstractmethod
    def validation_step(self, batch: BatchT, batch_idx: int) -> None: ...

    @abstractmethod
    def figures(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        """What is logged beside a mean loss, by name without the stage; those of `val` after a whole validation."""

    @property
    def data(self) -> SampleDataModule:
        """What is trained on."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit and does not declare it
        assert isinstance(data, SampleDataModule)
        return data

    def count_val_loss(self, total: Tensor, count: Tensor | int) -> None:
        """Add to the validation loss, which is a mean over all that is counted."""
        self._val_loss.update(total)
        self._val_count.update(count)

    def on_validation_epoch_end(self) -> None:
        """Make the mean over the whole validation known to callbacks; the metrics callback logs it."""
        # The sums are those of all processes already; without sync_dist Lightning warns that they might not be.
        self.log("val/loss", self._val_loss.compute() / self._val_count.compute(), logger=False, sync_dist=True)
        self._val_loss.reset()
        self._val_count.reset()

    def mean(self, figures: list[Tensor]) -> float:
        """The mean of a figure of micro-batches, over all processes."""
        return float(self.trainer.strategy.reduce(torch.stack(figures).mean(), reduce_op="mean"))

    def configure_model(self) -> None:
        """Share out the network among the processes, where the strategy does that."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.shard(self.model)

    def full_model(self) -> ModelT | None:
        """The network as one process has it, for the first process; None on others. All processes have to ask."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ShardedStrategy):
            return strategy.full_network(self.model)
        return self.model if distributed.is_rank_zero() else None

    def unshard(self) -> None:
        """After training, leave the whole network with the first process, and nothing with others that had a share."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.model = self.trainer.strategy.full_network(self.model)  # type: ignore[assignment]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if isinstance(self.trainer.strategy, ShardedStrategy):
            require_sharding_support(self.optimizer_spec)
        return self.optimizer_spec.build(self.model)

    def on_train_batch_start(self, batch: BatchT, batch_idx: int) -> None:
        for group in self._optimizer().param_groups:
            group["lr"] = self.learning_rate() * group.get("lr_scale", 1.0)

    def learning_rate(self) -> float:
        """The rate of the next optimizer step."""
        step = min(self.trainer.global_step, self.trainer.max_steps - 1)
        return self.optimizer_spec.lr * self.schedule.factor(step, self.trainer.max_steps)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by torch: Lightning refuses a fused optimizer under mixed precision, and does not return the norm."""
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        self.gradient_norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the weights as the plain model does, and add what makes the checkpoint enough by itself."""
        tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in checkpoint["state_dict"].items()}
        checkpoint["state_dict"] = tensors if self.strict_loading else adapter_alone(tensors)
        checkpoint[KEY] = self.description.to_plain()
        checkpoint["random_states"] = distributed.all_gather(random_state.capture(self.device))
        checkpoint["train_losses"] = of_all_processes(self.train_losses)
        checkpoint["stopped_early"] = self.trainer.should_stop and self.trainer.global_step < self.trainer.max_steps
        checkpoint["accumulate"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {_PREFIX + key: tensor for key, tensor in checkpoint["state_dict"].items()}
        self._random_state = _of_this_process(checkpoint["random_states"])
        self.train_losses = of_this_process(checkpoint["train_losses"])
        _count_in_new_parts(checkpoint, self.trainer.accumulate_grad_batches)

    def on_train_start(self) -> None:
        """After a resume: the settings of the present configuration rule, and dropout goes on where it stopped."""
        configured = self.optimizer_spec.build(self.model).param_groups
        for group, settings in zip(self._optimizer().param_groups, configured, strict=True):
            group.update({name: value for name, value in settings.items() if name != "params"})
        self.train_losses = [loss.to(self.device) for loss in self.train_losses]
        if self._random_state is not None:
            random_state.restore(self._random_state, self.device)

    def on_train_end(self) -> None:
        if self.skipped_steps:
            log.info(
                "precision: %s of %s steps were skipped, since their gradients were not finite in float16",
                f"{self.skipped_steps:,}",
                f"{self.trainer.global_step:,}",
            )

    @property
    def skipped_steps(self) -> int | None:
        """Steps that changed nothing since the run began, as gradients were not finite; None where none is skipped."""
        plugin = self.trainer.precision_plugin
        return plugin.skipped_steps if isinstance(plugin, Float16) else None

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]


def of_all_processes(figures: list[Tensor]) -> list[Tensor]:
    """Figures of micro-batches, as many in each process, in the order of the samples."""
    of_each = distributed.all_gather([figure.cpu() for figure in figures])
    return [figure for at_once in zip(*of_each, strict=True) for figure in at_once]


def of_this_process(figures: list[Tensor]) -> list[Tensor]:
    """This process's share of figures in the order of the samples."""
    return figures[distributed.rank() :: distributed.world_size()]


def _of_this_process(states: list[random_state.State]) -> random_state.State | None:
    if len(states) != distributed.world_size():
        log.info(
            "the checkpoint is of %d processes and this run has %d: dropout goes on with other numbers",
            len(states),
            distributed.world_size(),
        )
    return states[distributed.rank()] if distributed.rank() < len(states) else None


def _count_in_new_parts(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Restate Lightning's counts of micro-batches, where a step is now accumulated from another number of them."""
    before = checkpoint["accumulate"]
    for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            for name, count in counts.items():
                steps = math.ceil(count / before)  # a count may be one behind while a step ends
                counts[name] = steps * accumulate - (steps * before - count)
