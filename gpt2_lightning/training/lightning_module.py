"""Base of the LightningModules: one optimizer, its schedule, and self-contained checkpoints."""

from __future__ import annotations

import contextlib
import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import Metric

from gpt2_lightning.checkpoints.content import ADAPTER, KEY, Description, adapter_alone
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.training import distributed, random_state
from gpt2_lightning.training.optimizers import AdamW, OptimizerSpec
from gpt2_lightning.training.precision import Float16
from gpt2_lightning.training.restored_state import (
    convert_batch_counts,
    gather_interleaved,
    own_random_state,
    own_share,
    require_fit,
    require_own_state,
)
from gpt2_lightning.training.schedules import Cosine, Schedule
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy, require_sharding_support, whole
from gpt2_lightning.training.validation import BatchT, ValidationModule
from gpt2_lightning.training.weight_average import restore_trained

log = logging.getLogger(__name__)

_PREFIX = "model."
_LR_TIMES_WIDTH = 0.5
"""As in `conf/optimizer/adamw.yaml`: the best learning rate of Adam decreases with the width of the model."""
_WARMUP_FRACTION = 0.05
ModelT = TypeVar("ModelT", bound=nn.Module)


class TrainingModule(ValidationModule[BatchT], Generic[ModelT, BatchT]):
    """Base of the LightningModules. A subclass defines the training step and the validation step.

    It works with any `lightning.Trainer`: `train_loss`, `val_loss` and the validation metrics are logged through
    Lightning, for its loggers, progress bars and callbacks. The `Metrics` callback of this project replaces that.

    Args:
        model: the network.
        optimizer: settings of the optimizer, with the peak learning rate; None for AdamW with a learning rate of 0.5
            divided by the model's width.
        schedule: learning-rate schedule; None for a cosine after a warm-up over 5 % of the steps.
        description: description that is saved in every checkpoint, which makes it self-contained; None to construct
            it from the data module, if that has a tokenizer.
        metrics: validation metrics by name. Each is updated with logits (N, V) and targets (N,) of the predicted
            tokens, or with the logits (B, S) and targets of classified texts.
    """

    headline: str
    """Name of the metric displayed beside the loss."""

    def __init__(
        self,
        model: ModelT,
        optimizer: OptimizerSpec | None = None,
        schedule: Schedule | None = None,
        description: Description | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__(metrics)
        self.model = model
        self.optimizer_spec = optimizer or AdamW(lr=_LR_TIMES_WIDTH / self._gpt2_config.n_embd)
        self.schedule: Schedule = schedule or Cosine()
        self._has_default_schedule = schedule is None
        self._description = description
        self.total_steps = 0
        """Optimizer steps of the run; set by `configure_optimizers`."""
        self.train_losses: list[Tensor] = []
        """Losses of the micro-batches since the last row of metrics, which clears the list."""
        self.gradient_norm: Tensor | None = None
        """Norm of all gradients together in the last optimizer step, before clipping."""
        self._random_state: random_state.State | None = None
        if description is not None:
            self._use(description)

    @abstractmethod
    def training_step(self, batch: BatchT, batch_idx: int) -> Tensor: ...

    @property
    def description(self) -> Description:
        """Description of the model, which checkpoints contain.

        Raises:
            UserError: if it is unknown because the data module has no tokenizer.
        """
        if self._description is None:
            raise UserError(
                "tokenizer: it is unknown; give the data module tokenizer=…, or the LightningModule description=…"
            )
        return self._description

    @property
    def num_classes(self) -> int:
        """Last dimension of the logits: size of the vocabulary, or number of scores of a classifier."""
        return self.model.score.out_features if isinstance(self.model, Classifier) else self._gpt2_config.vocab_size

    @property
    def _gpt2_config(self) -> GPT2Config:
        network = self.model.transformer if isinstance(self.model, Classifier) else self.model
        assert isinstance(network, GPT2)
        return network.config

    def setup(self, stage: str) -> None:
        if self._description is None and self.data.tokenizer is not None:
            self._use(Description(self._gpt2_config, self.data.tokenizer, {}, self._task()))

    def _task(self) -> dict[str, Any]:
        """`Description.task`, as the data module defines it."""
        return self.data.task

    def _use(self, description: Description) -> None:
        self._description = description
        # The checkpoint of an adapter does not contain its base.
        self.strict_loading = ADAPTER not in description.task

    def on_train_batch_end(self, outputs: Any, batch: BatchT, batch_idx: int) -> None:
        if self.trainer.global_step >= self.total_steps:
            self.trainer.should_stop = True  # triggers a validation, which reaching max_steps does not
        if self.logs_itself:
            self.log("train_loss", self.train_losses[-1], prog_bar=True)
            self.train_losses.clear()

    def mean_over_ranks(self, values: list[Tensor]) -> float:
        """Return the mean of a value of the micro-batches of all ranks."""
        return float(self.trainer.strategy.reduce(torch.stack(values).mean(), reduce_op="mean"))

    def configure_model(self) -> None:
        """Shard the network if the strategy is FSDP."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.shard(self.model)

    @contextlib.contextmanager
    def full_model(self) -> Iterator[ModelT | None]:
        """Context manager of the unsharded network on rank zero, with the averaged weights if there are any.

        It yields None on other ranks. A collective: all ranks must call it.
        """
        strategy = self.trainer.strategy
        with contextlib.nullcontext() if self.weight_average is None else self.weight_average.applied():
            if isinstance(strategy, ShardedStrategy):
                yield strategy.full_network(self.model)
            else:
                yield self.model if distributed.is_rank_zero() else None

    def unshard(self) -> None:
        """Gather a sharded network on rank zero after training, and drop it on other ranks."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.model = self.trainer.strategy.full_network(self.model)  # type: ignore[assignment]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if isinstance(self.trainer.strategy, ShardedStrategy):
            require_sharding_support(self.optimizer_spec)
        self.total_steps = self._count_steps()
        if self._has_default_schedule:
            self.schedule = Cosine(warmup_steps=round(_WARMUP_FRACTION * self.total_steps))
        optimizer = self.optimizer_spec.build(self.model)
        optimizer.register_load_state_dict_pre_hook(require_own_state)
        return optimizer

    def _count_steps(self) -> int:
        steps = self.trainer.estimated_stepping_batches
        if not 0 <= steps < math.inf:
            raise UserError(
                "max_steps: the learning rate depends on the number of steps, which is unknown; set "
                "Trainer(max_steps=…) or Trainer(max_epochs=…)"
            )
        return int(steps)

    def on_train_batch_start(self, batch: BatchT, batch_idx: int) -> None:
        for group in self._optimizer().param_groups:
            group["lr"] = self.learning_rate() * group.get("lr_scale", 1.0)

    def learning_rate(self) -> float:
        """Return the learning rate of the next optimizer step."""
        step = min(self.trainer.global_step, self.total_steps - 1)
        return self.optimizer_spec.lr * self.schedule.factor(step, self.total_steps)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip with torch, since Lightning rejects fused optimizers in mixed precision and does not return the norm."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and not isinstance(self.trainer.precision_plugin, Float16):
            _unscale(scaler, optimizer)
        parameters = list(self.model.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.gradient_norm = whole(torch.nn.utils.get_total_norm(gradients))
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the weights as in the plain model, and add the description and the state that a resumed run needs."""
        named = checkpoint["state_dict"].items()
        tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in named if key.startswith(_PREFIX)}
        checkpoint["state_dict"] = tensors if self.strict_loading else adapter_alone(tensors)
        if self._description is not None:
            checkpoint[KEY] = self._description.to_plain()
        checkpoint["random_states"] = distributed.all_gather(random_state.capture(self.device))
        checkpoint["train_losses"] = gather_interleaved(self.train_losses)
        checkpoint["stopped_early"] = self.trainer.should_stop and self.trainer.global_step < self.trainer.max_steps
        checkpoint["accumulate"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {f"{_PREFIX}{key}": tensor for key, tensor in checkpoint["state_dict"].items()}
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        restore_trained(checkpoint)
        require_fit(checkpoint, self.trainer)
        self._random_state = own_random_state(checkpoint["random_states"])
        self.train_losses = own_share(checkpoint["train_losses"])
        convert_batch_counts(checkpoint, self.trainer.accumulate_grad_batches)

    def on_train_start(self) -> None:
        """After a resume, apply the current settings of the optimizer, and restore the random state."""
        configured = self.optimizer_spec.build(self.model).param_groups
        for group, settings in zip(self._optimizer().param_groups, configured, strict=True):
            group.update({name: value for name, value in settings.items() if name != "params"})
        self.train_losses = [loss.to(self.device) for loss in self.train_losses]
        if self._random_state is not None:
            random_state.restore(self._random_state, self.device)

    def on_train_end(self) -> None:
        if self.weight_average is not None:
            self.weight_average.apply()
            self.weight_average = None
        if self.skipped_steps:
            log.info(
                "precision: %s of %s steps were skipped, since their gradients were not finite in float16",
                f"{self.skipped_steps:,}",
                f"{self.trainer.global_step:,}",
            )

    @property
    def skipped_steps(self) -> int | None:
        """Steps skipped so far because gradients were not finite; None if the precision skips no steps."""
        plugin = self.trainer.precision_plugin
        return plugin.skipped_steps if isinstance(plugin, Float16) else None

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]


def _unscale(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    """Unscale the gradients of a fused optimizer before clipping; Lightning leaves it to the optimizer's step."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)
