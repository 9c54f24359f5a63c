"""Devices, machines and processes of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from gpt2_lightning import gpus
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import NonNegativeInt, PositiveFloat, PositiveInt, Settings, relation
from gpt2_lightning.signatures import accepted
from gpt2_lightning.training import distributed
from gpt2_lightning.training.strategies.fsdp import ShardedStrategy

_ENDPOINT = re.compile(r"(?P<host>[^:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Placement(Settings):
    """Settings of the devices, machines and processes of a run.

    Raises:
        ValueError: if this machine cannot satisfy settings; the message contains all of them.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Type of the device."""
    strategy: Literal["single", "ddp", "fsdp", "hsdp"] = "single"
    """single: one process. ddp: one process per device; each has the whole model, and gradients are averaged. fsdp: one
    process per device; weights, gradients and optimizer state are sharded, and each block is unsharded while in use.
    hsdp: sharded within each machine, and replicated over machines, as in ddp."""
    reshard_after_forward: bool = True
    """Whether fsdp and hsdp shard a block again after its forward pass, and gather it once more for its backward pass;
    false needs less communication, and the memory of the whole model in the dtype of the computation."""
    devices: PositiveInt | None = None
    """Devices per machine under ddp, fsdp and hsdp; null for all GPUs of the machine, or for one process on the CPU."""
    num_nodes: PositiveInt = 1
    """Machines, on each of which the same command is started."""
    rdzv_endpoint: str | None = None
    """HOST:PORT of the rendezvous of several machines: a free port of the machine with rank zero."""
    under_srun: bool = False
    """Whether srun must start the processes; if so, a start without srun is an error."""
    timeout: PositiveFloat = 1800.0
    """Timeout in seconds of the rendezvous, of collectives, and of the checkpoint of a stopped run; torch 2.11 and
    earlier allow 30 seconds for that checkpoint where this program starts the processes."""
    max_restarts: NonNegativeInt = 0
    """Restarts of a run, from its latest checkpoint, after one of its processes died; not under torchrun and srun,
    which have equivalent options."""

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
    def _only_shards_are_resharded(self) -> Iterator[str]:
        if not (self.reshard_after_forward or self.is_sharded):
            yield f"reshard_after_forward: false is for fsdp and hsdp, and the strategy is {self.strategy}"

    @relation
    def _accelerator_exists(self) -> Iterator[str]:
        if not self._has_accelerator():
            alone, on_cpu = "trainer=auto for one process", "fsdp_cpu" if self.is_sharded else "ddp_cpu"
            yield (
                f"accelerator: this machine has no {self.accelerator}, or this torch was built without it; use "
                + ("auto" if self.strategy == "single" else f"trainer={on_cpu}, or {alone}")
            )
        elif self.strategy != "single" and self.accelerator == "mps":
            yield f"accelerator: mps has one device and {self.strategy} is for several; use trainer=auto"
        elif self.on_cuda and (self.devices or 0) > (there := torch.cuda.device_count()):
            yield (
                f"devices: {self.devices} are asked for, and this machine has {there} ({gpus.visible()}); use {there} "
                "or fewer"
            )

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
    def is_sharded(self) -> bool:
        """Whether weights, gradients and optimizer state are sharded."""
        return self.strategy in ("fsdp", "hsdp")

    @property
    def on_cuda(self) -> bool:
        """Whether the run uses CUDA devices."""
        return self.accelerator in ("cuda", "auto") and torch.cuda.is_available()

    @property
    def waits(self) -> timedelta:
        """The timeout as a `timedelta`."""
        return timedelta(seconds=self.timeout)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the rendezvous of several machines.

        Raises:
            UserError: if no endpoint is set.
        """
        found = _ENDPOINT.fullmatch(self.rdzv_endpoint or "")
        if found is None:
            raise UserError(
                f"trainer.rdzv_endpoint: missing; {self.num_nodes} machines need a place to meet, HOST:PORT of one "
                "of them, the same on all. Or start the processes by torchrun or srun"
            )
        return found["host"], int(found["port"])

    def processes(self) -> int:
        """Return the world size: the processes that torchrun or srun has started, or the number to start.

        Raises:
            UserError: if the started processes do not match the settings.
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
            listed = f" ({gpus.visible()}), and two cannot share one" if self.on_cuda else ""
            raise UserError(
                f"trainer.devices: {started} processes were started on this machine, by torchrun or srun, for {here} "
                f"devices{listed}; start as many as there are devices, and set trainer.devices to that or to null. "
                "Each process must see all GPUs of its machine (srun without --gpus-per-task)"
            )
        if self.num_nodes not in (1, machines := distributed.world_size() // started):
            raise UserError(
                f"trainer.num_nodes: {self.num_nodes} machines are set, and torchrun or srun has started processes on "
                f"{machines}; leave it out, or set it to that"
            )
        return distributed.world_size()

    def processes_here(self) -> int:
        """Return the number of processes to start on this machine."""
        if self.strategy == "single":
            return 1
        return self.devices or (torch.cuda.device_count() if self.on_cuda else 1)

    def lightning_strategy(self, compute_in: torch.dtype | None) -> Strategy | str:
        """Build Lightning's strategy.

        Args:
            compute_in: see `ShardedStrategy`.
        """
        started_by = distributed.environment()
        if started_by is None:
            return "auto"
        if self.is_sharded:
            machines = distributed.world_size() // distributed.local_world_size()
            replicas = machines if self.strategy == "hsdp" else 1
            return ShardedStrategy(started_by, self.waits, compute_in, self.reshard_after_forward, replicas)
        # Buffers are constants, and need not be broadcast at each step. torch 2.11 has the second name of the argument.
        buffers = accepted(DistributedDataParallel, forward_sync_buffers=False) or {"broadcast_buffers": False}
        # No static_graph: with it, DDP does not reduce gradients that were accumulated (pytorch/pytorch#187732).
        return DDPStrategy(
            cluster_environment=started_by,
            timeout=self.waits,
            gradient_as_bucket_view=True,
            **buffers,
        )
