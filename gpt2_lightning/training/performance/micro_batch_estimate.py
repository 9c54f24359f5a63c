"""Micro-batch size by an estimate of what fits into the free memory of GPUs."""

from __future__ import annotations

from collections.abc import Callable

FILLED = 0.8
"""Fraction of the free memory that a step may fill by the estimate. The rest is for what is not counted: fragmentation,
buffers of NCCL and cuBLAS, and the code of kernels."""


def rows_that_fit(share: int, bytes_for: Callable[[int], int], free: int, accumulated: int = 0) -> int:
    """Return the largest divisor of `share` whose step fits; 1 if none does.

    Args:
        share: samples of one process per optimizer step.
        bytes_for: memory of a step in bytes by the samples per micro-batch; called at most twice.
        free: bytes that the process can use.
        accumulated: further bytes of a step with several micro-batches: unsharded gradients under FSDP.
    """
    whole = bytes_for(share)
    if whole <= FILLED * free:
        return share
    most = samples_in(free, share, whole + accumulated, bytes_for(2 * share) + accumulated)
    return max(number for number in range(1, max(most, 1) + 1) if share % number == 0)


def samples_in(free: int, rows: int, one: int, two: int) -> int:
    """Return about how many samples fit at a time: the memory of a step is linear in their number.

    Args:
        free: bytes that the process can use.
        rows: a number of samples.
        one: bytes of a step with this number.
        two: bytes of a step with twice the number.
    """
    return max(0, int(rows + (FILLED * free - one) * rows / max(1, two - one)))
