"""Micro-batch size by an estimate of what fits into the free memory of GPUs."""

from __future__ import annotations

import bisect
from collections.abc import Callable

FILLED = 0.8
"""Fraction of the free memory that a step may fill by the estimate. The rest is for what is not counted: fragmentation,
buffers of NCCL and cuBLAS, and the code of kernels."""


def rows_that_fit(share: int, bytes_for: Callable[[int], int], free: int) -> int:
    """Return the largest divisor of `share` whose step fits; 1 if none does.

    Args:
        share: samples of one process per optimizer step.
        bytes_for: memory of a step by the samples per micro-batch; increasing.
        free: bytes that the process can use.
    """
    limit = FILLED * free
    if bytes_for(share) <= limit:  # the usual case, without the trials of a bisection
        return share
    divisors = [number for number in range(1, share + 1) if share % number == 0]
    fitting = bisect.bisect_left(divisors, True, key=lambda rows: bytes_for(rows) > limit)
    return divisors[max(fitting - 1, 0)]
