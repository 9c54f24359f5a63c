"""Where a run takes place: on which devices of which machines, in how many processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import NonNegativeInt, PositiveFloat, PositiveInt, Settings, relation
from gpt2_lightning.training import distributed
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy

_ENDPOINT = re.compile(r"(?P<host>[^:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Placement(Settings):
    """Devices, machines and processes.

    Raises:
        ValueError: with every setting that this machine cannot fulfil.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to run on."""
    strategy: Literal["single", "ddp", "fsdp"] = "single"
    """One process; or one for each device: under ddp each has the whole model, and they average their gradients; under
    fsdp they share out weights, gradients and the optimizer's state, and put a block together when it is its turn."""
    devices: PositiveInt | None = None
    """Devices of each machine to use under ddp and fsdp; null for all its GPUs, and for one process on the CPU."""
    num_nodes: PositiveInt = 1
    """Machines, on each of which the same command is started."""
    rdzv_endpoint: str | None = None
    """HOST:PORT where several machines meet: one of them, which leads, and a free port of it."""
    under_srun: bool = False
    """Whether srun has to start the processes, so that it is an error where that was forgotten."""
    timeout: PositiveFloat = 1800.0
    """Seconds that a process waits for the others, and that a stopped run has to save."""
    max_restarts: NonNegativeInt = 0
    """How often a run whose process died is started again, from its latest checkpoint; not under torchrun and srun,
    which have such options of their own."""

    @relation
    def _one_process_has_one_device(self) -> Iterator[str]:
        if self.strategy == "single" and self.devices not in (None, 1):
            yield f"devices: {self.devices} need as many processes; use trainer=ddp, or ddp_cpu without GPUs"

    @relation
    def _one_process_has_one_machine(self) -> Iterator[str]:
        if self.strategy == "single" and self.num_nodes > 1:
            yield f"num_nodes: {self.num_nodes} machines need as many processes; use trainer=multi_node"

    @relation
    def _one_process_is_not_restarted(self) -> Iterator[str]:
        if self.strategy == "single" and self.max_restarts:
            yield f"max_restarts: {self.max_restarts} is for processes that are started here; use trainer=ddp or fsdp"

    @relation
    def _accelerator_exists(self) -> Iterator[str]:
        if not self._has_accelerator():
            alone = "trainer=auto for one process"
            yield (
                f"accelerator: this machine has no {self.accelerator}, or this torch was built without it; use "
                + ("auto" if self.strategy == "single" else f"trainer={self.strategy}_cpu, or {alone}")
            )
        elif self.strategy != "single" and self.accelerator == "mps":
            yield f"accelerator: mps has one device and {self.strategy} is for several; use trainer=auto"
        elif self.on_cuda and (self.devices or 0) > (there := torch.cuda.device_count()):
            yield f"devices: {self.devices} are asked for, and this machine has {there}; use {there} or fewer"

    @relation
    def _endpoint_has_a_port(self) -> Iterator[str]:
        if self.rdzv_endpoint is None:
            return
        found = _ENDPOINT.fullmatch(self.rdzv_endpoint)
        if found is None or not 0 < int(found["port"]) < 2**16:
            yield f"rdzv_endpoint: '{self.rdzv_endpoint}' is not of the form HOST:PORT with a port up to 65535"

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

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port where several machines meet.

        Raises:
            UserError: if none is set.
        """
        found = _ENDPOINT.fullmatch(self.rdzv_endpoint or "")
        if found is None:
            raise UserError(
                f"trainer.rdzv_endpoint: missing; {self.num_nodes} machines need a place to meet, HOST:PORT of one "
                "of them, the same on all. Or start the processes by torchrun or srun"
            )
        return found["host"], int(found["port"])

    def processes(self) -> int:
        """Processes of the run on all machines: those that torchrun or srun has started, or those to start.

        Raises:
            UserError: if others were started than the settings say.
        """
        here = self.processes_here()
        if distributed.environment() is None:
            if self.under_srun:
                raise UserError(
                    "trainer=slurm: srun has not started this program as one of several; put srun before the command "
                    "in the batch script, with --ntasks-per-node as many as GPUs, or use trainer=ddp"
                )
            return self.num_nodes * here
        started = distributed.local_world_size()
        if self.strategy == "single" and distributed.world_size() > 1:
            raise UserError(
                f"trainer.strategy: {distributed.world_size()} processes were started, by torchrun or srun, for "
                "a trainer of one; use trainer=ddp, or ddp_cpu without GPUs"
            )
        if self.devices not in (None, started) or (self.on_cuda and started > here):
            raise UserError(
                f"trainer.devices: {started} processes were started on this machine, by torchrun or srun, for {here} "
                "devices; start as many as there are devices, and set trainer.devices to that or to null"
            )
        if self.num_nodes not in (1, machines := distributed.world_size() // started):
            raise UserError(
                f"trainer.num_nodes: {self.num_nodes} machines are set, and torchrun or srun has started processes on "
                f"{machines}; leave it out, or set it to that"
            )
        return distributed.world_size()

    def processes_here(self) -> int:
        """Processes to start on this machine."""
        if self.strategy == "single":
            return 1
        return self.devices or (torch.cuda.device_count() if self.on_cuda else 1)

    def lightning_strategy(self, compute_in: torch.dtype | None) -> Strategy | str:
        """How Lightning lets the processes work together.

        Args:
            compute_in: see `ShardedStrategy`.
        """
        started_by = distributed.environment()
        if started_by is None:
            return "auto"
        if self.strategy == "fsdp":
            return ShardedStrategy(started_by, self.waits, compute_in)
        # Nothing is broadcast before each step: the only buffers are constants.
        return DDPStrategy(
            cluster_environment=started_by,
            timeout=self.waits,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )
