"""Placement of matrices on ranks, and the collectives by which each rank computes a share of them.

Under DDP every rank has whole matrices: each rank computes some, and all gather the results. Under FSDP every rank has
some rows of each matrix: an all-to-all brings each matrix together on one rank, and another returns rows of the result.
With a mesh of replicas and shards (HSDP) every replica does so for its share, and the replicas gather the results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor, Shard
from torch.nn.functional import pad

_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name from torch 2.13 on


@dataclass(frozen=True)
class MatrixLayout:
    """Ranks that hold a parameter, among which the computation of its update can be divided."""

    shards: dist.ProcessGroup | None = None
    """Ranks with different rows of the parameter; None if this rank has all rows."""
    replicas: dist.ProcessGroup | None = None
    """Ranks with the same rows of the parameter; None if no other rank has them."""

    @classmethod
    def of(cls, parameter: Tensor) -> MatrixLayout:
        """Return the layout of a DTensor by its mesh. Any other tensor has replicas on all ranks, as under DDP."""
        if isinstance(parameter, FakeTensor):
            return cls()  # an estimate, which does not communicate
        if not isinstance(parameter, DTensor):
            return cls(replicas=_if_several(dist.group.WORLD if dist.is_initialized() else None))
        mesh, placements = parameter.device_mesh, parameter.placements
        assert all(each.is_replicate() or each == Shard(0) for each in placements), f"rows are sharded: {placements}"
        groups = {each.is_shard(): _if_several(mesh.get_group(dim)) for dim, each in enumerate(placements)}
        assert len(groups) == len(placements), f"one dimension of shards and one of replicas: {placements}"
        return cls(shards=groups.get(True), replicas=groups.get(False))

    @property
    def ranks(self) -> int:
        """Number of ranks among which matrices are divided."""
        return _size(self.shards) * _size(self.replicas)

    def own(self, count: int) -> slice:
        """Return which of `count` matrices the shards of this rank's replica compute."""
        share = _ceil_div(count, _size(self.replicas))
        first = share * dist.get_rank(self.replicas) if self.replicas else 0
        return slice(first, first + share)

    def compute(
        self, function: Callable[[Tensor], Tensor], own: list[Tensor], count: int, like: Tensor, dtype: torch.dtype
    ) -> Generator[None, None, Tensor]:
        """Apply a function to matrices, each on one rank. Yields while a collective is in progress; see `interleave`.

        Args:
            function: function of stacked whole matrices (N, A, B), with a result of the same shape.
            own: this rank's rows of the matrices `self.own(count)`.
            count: number of matrices of all replicas.
            like: a parameter of the matrices' shape (A, B).
            dtype: dtype of the stack and of the communication.

        Returns:
            This rank's rows of the results for all matrices, (count, rows, B).
        """
        (height, width), local, ranks = like.shape, to_local(like), _size(self.shards)
        rows = _ceil_div(height, ranks)  # the last ranks may have fewer, or none
        share = _ceil_div(count, _size(self.replicas))
        stack = local.new_zeros((_ceil_div(share, ranks) * ranks, rows, width), dtype=dtype)
        if own:
            torch._foreach_copy_(stack[: len(own), : len(local)].unbind(), own)
        if self.shards:
            by_rank = (yield from _all_to_all(stack, self.shards)).unflatten(0, (ranks, -1))
            stack = by_rank.transpose(0, 1).flatten(1, 2)[:, :height]
        stack = function(stack)
        if self.shards:
            by_rank = pad(stack, (0, 0, 0, ranks * rows - height)).unflatten(1, (ranks, rows)).transpose(0, 1)
            stack = yield from _all_to_all(by_rank.flatten(0, 1), self.shards)
        if self.replicas:
            stack = yield from _gather(stack[:share], self.replicas)
        return stack[:count, : len(local)]


def interleave(computations: Iterable[Generator[None, None, None]]) -> None:
    """Run generators so that each computes while the collectives of earlier ones are in progress."""
    waiting, running = iter(computations), list[Generator[None, None, None]]()
    while running := [*islice(waiting, 1), *running]:
        running = [each for each in running if next(each, "done") is None]


def to_local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a DTensor, in the same memory; another tensor unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _all_to_all(stack: Tensor, group: dist.ProcessGroup) -> Generator[None, None, Tensor]:
    """Send the i-th of equal parts of a stack to rank i; return the parts received, in the order of the ranks."""
    sent = stack.contiguous()
    received = torch.empty_like(sent)
    work = dist.all_to_all_single(received, sent, group=group, async_op=True)
    yield
    work.wait()
    return received


def _gather(stack: Tensor, group: dist.ProcessGroup) -> Generator[None, None, Tensor]:
    """Return the stacks of all ranks, one after another."""
    sent = stack.contiguous()
    received = sent.new_empty((_size(group) * len(sent), *sent.shape[1:]))
    work = _all_gather(received, sent, group=group, async_op=True)
    yield
    work.wait()
    return received


def _size(group: dist.ProcessGroup | None) -> int:
    return dist.get_world_size(group) if group else 1


def _if_several(group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    return group if _size(group) > 1 else None


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
