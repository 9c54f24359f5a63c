"""Settings of Lightning's Trainer, and the method that builds it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import lightning as L
import torch
from annotated_types import Gt, Le
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.loggers import Logger

from gpt2_lightning.settings import PositiveFloat, PositiveInt, relation
from gpt2_lightning.training import distributed, precision
from gpt2_lightning.training.precision import Precision
from gpt2_lightning.training.saving.checkpoint_io import AtomicCheckpointIO
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy
from gpt2_lightning.training.strategies.placement import Placement

DEFAULT_STEPS = 2000
_Length = Annotated[float, Gt(0), Le(1e18)]
_MOST_LOAD = 1.5
"""Load of the machine, in threads per core, above which threads wait for each other."""


@dataclass(frozen=True)
class TrainerSpec(Placement):
    """Length, intervals, clipping and precision of a run; see `Placement` for its devices.

    Intervals are in optimizer steps.

    Raises:
        ValueError: if settings are out of range or two limits are set; the message contains all of them.
    """

    max_steps: PositiveInt | None = None
    """Optimizer steps of the run; 2,000 if no limit is set."""
    max_tokens: _Length | None = None
    """Training tokens, such as 1e9, rounded up to whole steps; an alternative to max_steps."""
    max_epochs: _Length | None = None
    """Passes over the training text, rounded up to whole steps; an alternative to max_steps."""
    val_check_interval: PositiveInt = 250
    """Steps between two validations; the last step is always validated."""
    limit_val_batches: PositiveInt | None = None
    """Batches per validation and process; null for the whole validation split. Presets of `debug` set it."""
    eval_train_batches: PositiveInt | None = None
    """Micro-batches of the training part per process whose loss in evaluation mode, `train/eval_loss`, is computed at
    every validation, always of the same samples; null for none."""
    log_every_n_steps: PositiveInt = 10
    """Steps between two rows of metrics."""
    gradient_clip_val: PositiveFloat | None = 1.0
    """Maximum total norm of the gradients; null for no clipping."""
    threads: PositiveInt | None = None
    """CPU threads of each process; null for all cores, or `OMP_NUM_THREADS` if that is set. Rounding, and with it the
    weights, may depend on the number."""
    precision: Precision = "auto"
    """Precision of the computation, see `precision.Precision`."""

    @relation
    def _one_limit(self) -> Iterator[str]:
        limits = {"max_steps": self.max_steps, "max_tokens": self.max_tokens, "max_epochs": self.max_epochs}
        given = [f"{name}={value}" for name, value in limits.items() if value is not None]
        if len(given) > 1:
            first = given[0].partition("=")[0]
            yield f"{first}: {' and '.join(given)} exclude each other; set all but one to null"

    @relation
    def _precision_suits_the_device(self) -> Iterator[str]:
        if self._has_accelerator() and (fault := precision.fault(self.precision, self.device_type)) is not None:
            yield fault
        elif self.is_sharded and self.precision == "fp16":
            yield f"precision: fp16 scales the loss, which {self.strategy} does not take part in; use bf16 or fp32"

    @property
    def device_type(self) -> str:
        """`cuda`, `mps` or `cpu`."""
        if self.on_cuda:
            return "cuda"
        return "mps" if self.accelerator in ("auto", "mps") and torch.backends.mps.is_available() else "cpu"

    @property
    def computes_in(self) -> torch.dtype | None:
        """Dtype of matrix products in mixed precision, with weights in float32; None for the dtype of the weights."""
        return precision.MIXED.get(self.resolved_precision)

    @property
    def resolved_precision(self) -> Precision:
        """The precision on this machine, where `auto` depends on the device and the strategy."""
        return precision.choose(self.precision, self.device_type, self.is_sharded)

    def precision_remark(self) -> str | None:
        """Return a remark on the precision for the summary of a run; see `precision.remark`."""
        return precision.remark(self.precision, self.device_type, self.is_sharded)

    def threads_remark(self) -> str | None:
        """Return a warning if a run on a CPU starts on a busy machine with several threads; else None."""
        cores, load = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _load()
        threads = self.threads or torch.get_num_threads()
        if self.device_type != "cpu" or threads == 1 or load + threads <= _MOST_LOAD * cores:
            return None
        return (
            f"the load of the machine is {load:.1f} already, and this run has {threads} threads for {cores} cores: "
            "threads that wait for each other may be slower than one; if so, set trainer.threads=1"
        )

    def steps(self, batch_size: int, block_size: int, samples_per_epoch: int) -> int:
        """Return the optimizer steps of the whole run.

        Args:
            batch_size: samples per optimizer step.
            block_size: tokens per sample.
            samples_per_epoch: samples of the training split.
        """
        if self.max_tokens is not None:
            return math.ceil(self.max_tokens / (batch_size * block_size))
        if self.max_epochs is not None:
            return math.ceil(self.max_epochs * samples_per_epoch / batch_size)
        return DEFAULT_STEPS if self.max_steps is None else self.max_steps

    def build(
        self,
        max_steps: int,
        accumulate: int,
        callbacks: Sequence[L.Callback],
        loggers: Sequence[Logger],
        checkpoint_io: AtomicCheckpointIO | None = None,
    ) -> L.Trainer:
        """Build the Trainer of this process.

        Args:
            max_steps: see `steps`.
            accumulate: micro-batches of this process per optimizer step.
            callbacks: callbacks, called in this order.
            loggers: loggers, which all receive the same rows.
            checkpoint_io: plugin that reads and writes checkpoints; None for a new one.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        here = distributed.local_world_size()
        strategy = self.lightning_strategy(self.computes_in)
        arithmetic = precision.plugin(self.resolved_precision, self.device_type)
        if isinstance(strategy, ShardedStrategy) and self.computes_in is not None:
            arithmetic = precision.left_to_strategy(arithmetic)
        # Lightning would take the variables of a Slurm job, in which this process is alone, for those of srun.
        environment = [LightningEnvironment()] if distributed.environment() is None else []
        return L.Trainer(
            accelerator=self.accelerator,
            devices=here,
            num_nodes=distributed.world_size() // here,
            strategy=strategy,
            max_steps=max_steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            val_check_interval=self.val_check_interval * accumulate,
            check_val_every_n_epoch=None,
            limit_val_batches=self.limit_val_batches,
            log_every_n_steps=self.log_every_n_steps,
            gradient_clip_val=self.gradient_clip_val,
            callbacks=list(callbacks),
            logger=list(loggers),
            inference_mode=False,  # in which sharded weights could not be gathered
            plugins=[checkpoint_io or AtomicCheckpointIO(), arithmetic, *environment],
            # The callbacks and data modules of this package implement these features.
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )


def _load() -> float:
    """The mean number of running threads of the machine in the last minute; 0 where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
