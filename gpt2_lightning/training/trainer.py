"""The settings of Lightning's Trainer that a user chooses, and the Trainer made from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from gpt2_lightning.errors import UserError
from gpt2_lightning.training import processes
from gpt2_lightning.training.checkpoint_io import AtomicCheckpointIO

DEFAULT_STEPS = 2000
_LIMITS = ("max_steps", "max_tokens", "max_epochs")


@dataclass(frozen=True)
class TrainerSpec:
    """How long, how often and on what. Intervals count optimizer steps.

    Raises:
        ValueError: with every setting that is out of range, or if two limits are set.
    """

    max_steps: int | None = None
    """Optimizer steps of the run; 2,000 where no limit is set."""
    max_tokens: float | None = None
    """Tokens to train on, such as 1e9, rounded up to whole steps: another way to set the limit."""
    max_epochs: float | None = None
    """Passes over the training text, rounded up to whole steps: a third way to set the limit."""
    val_check_interval: int = 250
    """Steps between two validations; the last step is always validated."""
    log_every_n_steps: int = 10
    """Steps between two rows of metrics."""
    gradient_clip_val: float | None = 1.0
    """Largest norm of all gradients together; null for no limit."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to run on."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the forward and backward pass; weights and optimizer stay in float32."""
    strategy: Literal["single", "ddp"] = "single"
    """One process; or one for each device, each with a whole model, which average their gradients."""
    devices: int | None = None
    """Devices of each machine to use under ddp; null for all its GPUs, and for one process on the CPU."""
    timeout: float = 1800.0
    """Seconds that a process under ddp waits for the others, and that a stopped run has to save."""

    def __post_init__(self) -> None:
        limits = [f"{name}={getattr(self, name)}" for name in _LIMITS if getattr(self, name) is not None]
        faults = []
        if len(limits) > 1:
            first = limits[0].split("=")[0]
            faults.append(f"{first}: {' and '.join(limits)} exclude each other; set all but one to null")
        for name in (*_LIMITS, "val_check_interval", "log_every_n_steps", "gradient_clip_val", "devices", "timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                faults.append(f"{name}: {value} is out of range, it must be above 0 and finite")
        if not self._has_accelerator():
            faults.append(
                f"accelerator: this machine has no {self.accelerator}, or this torch was built without it; use "
                + ("auto" if self.strategy == "single" else "trainer=ddp_cpu, or trainer=auto for one process")
            )
        elif self.strategy == "ddp" and self.accelerator == "mps":
            faults.append("accelerator: mps has one device and ddp is for several; use trainer=auto")
        elif self.strategy == "single" and self.devices not in (None, 1):
            faults.append(f"devices: {self.devices} need as many processes; use trainer=ddp, or ddp_cpu without GPUs")
        elif self.on_cuda and (self.devices or 0) > (there := torch.cuda.device_count()):
            faults.append(f"devices: {self.devices} are asked for, and this machine has {there}; use {there} or fewer")
        if faults:
            raise ValueError("\n".join(faults))

    def _has_accelerator(self) -> bool:
        if self.accelerator == "cuda":
            return torch.cuda.is_available()
        return self.accelerator != "mps" or torch.backends.mps.is_available()

    @property
    def on_cuda(self) -> bool:
        """Whether the run takes place on GPUs of CUDA's kind."""
        return self.accelerator in ("cuda", "auto") and torch.cuda.is_available()

    @property
    def waits(self) -> timedelta:
        """The timeout."""
        return timedelta(seconds=self.timeout)

    def processes(self) -> int:
        """Processes of the run on all machines: those that torchrun or srun has started, or those to start.

        Raises:
            UserError: if others were started than the settings say.
        """
        here = self._devices_here()
        if processes.environment() is None:
            return here
        started = processes.count_here()
        if self.strategy == "single" and processes.count() > 1:
            raise UserError(
                f"trainer.strategy: {processes.count()} processes were started, by torchrun or srun, for a trainer of "
                "one; use trainer=ddp, or ddp_cpu without GPUs"
            )
        if self.devices not in (None, started) or (self.on_cuda and started > here):
            raise UserError(
                f"trainer.devices: {started} processes were started on this machine, by torchrun or srun, for {here} "
                "devices; start as many as there are devices, and set trainer.devices to that or to null"
            )
        return processes.count()

    def _devices_here(self) -> int:
        if self.strategy == "single":
            return 1
        return self.devices or (torch.cuda.device_count() if self.on_cuda else 1)

    def steps(self, batch_size: int, block_size: int, samples_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.max_tokens is not None:
            return math.ceil(self.max_tokens / (batch_size * block_size))
        if self.max_epochs is not None:
            return math.ceil(self.max_epochs * samples_per_epoch / batch_size)
        return DEFAULT_STEPS if self.max_steps is None else self.max_steps

    def build(
        self, max_steps: int, accumulate: int, callbacks: Sequence[L.Callback], loggers: Sequence[Logger]
    ) -> L.Trainer:
        """This process's Trainer.

        Args:
            max_steps: see `steps`.
            accumulate: micro-batches of this process in an optimizer step.
            callbacks: called in this order.
            loggers: all get the same rows.
        """
        started_by, here = processes.environment(), processes.count_here()
        return L.Trainer(
            accelerator=self.accelerator,
            devices=here,
            num_nodes=processes.count() // here,
            # Nothing is broadcast before each step: the only buffers are constants.
            strategy="auto"
            if started_by is None
            else DDPStrategy(
                cluster_environment=started_by,
                timeout=self.waits,
                forward_sync_buffers=False,
                gradient_as_bucket_view=True,
            ),
            precision=self.precision,
            max_steps=max_steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            val_check_interval=self.val_check_interval * accumulate,
            check_val_every_n_epoch=None,
            log_every_n_steps=self.log_every_n_steps,
            gradient_clip_val=self.gradient_clip_val,
            callbacks=list(callbacks),
            logger=list(loggers),
            plugins=[AtomicCheckpointIO()],
            # What follows is done by this project's own callbacks and DataModules.
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
