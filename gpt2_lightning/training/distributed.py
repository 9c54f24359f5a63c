"""Rank, world size and collectives of the processes that train one model.

A single process has rank 0 and a world size of 1, and its collectives return their input. Collectives use gloo, also
if gradients use NCCL, so that they do not synchronize the GPU.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies import network_interface

T = TypeVar("T")
_talk: dist.ProcessGroup | None = None
"""Process group of the collectives in this module; set by `join`."""


def environment() -> ClusterEnvironment | None:
    """Return the cluster environment: torch's elastic agent (torchrun) or Slurm; None for a single process."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment() if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else None


def rank() -> int:
    """Return the rank of this process."""
    if dist.is_initialized():
        return dist.get_rank()
    started_by = environment()
    return started_by.global_rank() if started_by else 0


def world_size() -> int:
    """Return the number of processes on all machines."""
    if dist.is_initialized():
        return dist.get_world_size()
    started_by = environment()
    return started_by.world_size() if started_by else 1


def local_world_size() -> int:
    """Return the number of processes on this machine; every machine has the same number."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return world_size() // int(os.environ.get("SLURM_STEP_NUM_NODES", 1))


def is_rank_zero() -> bool:
    """Whether this is rank zero."""
    return rank() == 0


def join(on_cuda: bool, timeout: timedelta) -> None:
    """Initialize the process group. Call it once, before any collective of this module.

    Args:
        on_cuda: whether gradients are on GPUs; this process then uses the GPU of its local rank.
        timeout: timeout of the rendezvous and of every collective.

    Raises:
        UserError: if torch has no NCCL, the rendezvous port is in use by another program, or two ranks share a GPU.
    """
    if on_cuda and not dist.is_nccl_available():
        raise UserError(
            "trainer.strategy: this torch was built without NCCL, by which GPUs communicate; install one with it "
            "(there is none for Windows), or use trainer=gpu for one GPU"
        )
    started_by = environment()
    assert started_by is not None, "a process by itself has nobody to meet"
    device = torch.device("cuda", started_by.local_rank()) if on_cuda else None
    if device is not None:
        torch.cuda.set_device(device)
    if world_size() > local_world_size() and (interface := network_interface.towards(started_by.main_address)):
        # By default gloo uses the interface to which the host name resolves, which may be the loopback.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        dist.init_process_group(
            "nccl" if on_cuda else "gloo",
            store=_meeting_place(started_by, timeout),
            rank=started_by.global_rank(),
            world_size=started_by.world_size(),
            timeout=timeout,
            device_id=device,
        )
    except dist.DistBackendError as error:
        if "Duplicate GPU" not in str(error):
            raise
        raise UserError(
            f"trainer.devices: rank {started_by.global_rank()} shares its GPU with another rank; start one process per "
            "GPU, and let every process of a machine see all of its GPUs (CUDA_VISIBLE_DEVICES)"
        ) from None
    global _talk
    _talk = dist.new_group(backend="gloo", timeout=timeout) if on_cuda else dist.group.WORLD


def _meeting_place(started_by: ClusterEnvironment, timeout: timedelta) -> dist.Store:
    """Return the store of the rendezvous, with the addresses of all ranks."""
    host, port = started_by.main_address, started_by.main_port
    place = f"tcp://{host}:{port}"
    try:
        store, _, _ = next(rendezvous(place, started_by.global_rank(), started_by.world_size(), timeout=timeout))
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise UserError(
            f"port {port} of {host}, where the processes meet, is in use by another program; set the environment "
            "variable MASTER_PORT to a free one, for all of them"
        ) from None
    # A store may outlive the processes of one start; a prefix keeps those of the next start from reading its keys.
    return dist.PrefixStore(os.environ.get("TORCHELASTIC_RUN_ID", ""), store)


def leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave_together() -> None:
    """Destroy the process group after a barrier, before an exit code at which the launcher ends other ranks."""
    with contextlib.suppress(RuntimeError):  # other ranks may have exited
        barrier()
    leave()


def broadcast(decision: Callable[[], T]) -> T:
    """Return the result of `decision` on rank zero, on all ranks. Other ranks do not call it."""
    if world_size() == 1:
        return decision()
    answer = [decision() if is_rank_zero() else None]
    dist.broadcast_object_list(answer, src=0, group=_talk)
    return answer[0]  # type: ignore[return-value]  # the others have received it


def broadcast_tensors(content: T | None) -> T:
    """Broadcast nested containers with tensors on the CPU, such as a checkpoint, tensor by tensor.

    Args:
        content: the containers of rank zero; None on the others.
    """
    if world_size() == 1:
        assert content is not None, "rank zero has the content"
        return content
    stream = io.BytesIO()
    pickler = _SkeletonPickler(stream)
    pickler.dump(content)
    skeleton = broadcast(stream.getvalue)
    received = _SkeletonUnpickler(io.BytesIO(skeleton))
    result: T = received.load()
    for tensor in pickler.tensors if is_rank_zero() else received.tensors:
        if tensor.numel():
            dist.broadcast(tensor.contiguous().reshape(-1).view(torch.uint8), src=0, group=_talk)
    return content if is_rank_zero() and content is not None else result


class _SkeletonPickler(pickle.Pickler):
    """Pickle everything except tensors, of which shape and dtype are stored."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []

    def persistent_id(self, value: Any) -> tuple[torch.Size, torch.dtype] | None:
        if not isinstance(value, Tensor):
            return None
        self.tensors.append(value)
        return value.shape, value.dtype


class _SkeletonUnpickler(pickle.Unpickler):
    """Create empty tensors in place of the omitted ones, in the same order."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []

    def persistent_load(self, pid: Any) -> Tensor:
        shape, dtype = pid
        self.tensors.append(torch.empty(shape, dtype=dtype))
        return self.tensors[-1]


def all_gather(value: T) -> list[T]:
    """Return the values of all ranks, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value, group=_talk)
    return values  # type: ignore[return-value]  # all have been received


def largest(number: int) -> int:
    """Return the maximum of a number over all ranks."""
    if world_size() == 1:
        return number
    numbers = torch.tensor([number])
    dist.all_reduce(numbers, dist.ReduceOp.MAX, group=_talk)
    return int(numbers)


def barrier() -> None:
    """Wait until all ranks have reached this point."""
    if world_size() > 1:
        dist.barrier(group=_talk)


@contextlib.contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the body on rank zero first, then on the other ranks, which can reuse its result (a file, say)."""
    if not is_rank_zero():
        barrier()
    yield
    if is_rank_zero():
        barrier()
