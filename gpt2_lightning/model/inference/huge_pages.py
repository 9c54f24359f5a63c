"""Huge pages for weights: 2 MiB each, in place of 4 KiB.

A step of decoding reads every weight once, and with small pages a part of its time goes into translating addresses.
Linux makes huge pages without being asked only where its administrator has set this.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

import torch
from torch import Tensor

_SIZE = 2**21
"""Bytes of a huge page."""
_COLLAPSE = 25
"""MADV_COLLAPSE, of Linux 6.1 and later: replace the pages of a range at once, and keep what they hold."""


def empty(count: int) -> Tensor:
    """An uninitialized tensor, (count,) in float32, whose memory is in huge pages where the system supports this."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux alone
    if advice is None or not count:
        return torch.empty(count)
    memory = mmap.mmap(-1, 4 * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(advice)
    return torch.frombuffer(memory, dtype=torch.float32)


def collapse(tensor: Tensor) -> None:
    """Move a tensor on a CPU to huge pages, all of it that fills such pages; its address and values stay.

    Takes about half as long as a copy of it. Nothing happens where the system does not support this.

    Args:
        tensor: strided, or in oneDNN's own layout.
    """
    madvise = _madvise()
    if madvise is None or tensor.device.type != "cpu":
        return
    if tensor.is_mkldnn:
        start, size = torch.ops.mkldnn.data_ptr(tensor), torch.ops.mkldnn._nbytes(tensor)
    else:
        start, size = tensor.data_ptr(), tensor.nbytes
    first, end = -(-start // _SIZE) * _SIZE, (start + size) // _SIZE * _SIZE
    if first < end:
        madvise(first, end - first, _COLLAPSE)  # an error, as of an older Linux, changes nothing


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """The C library's madvise; None where it is another system's."""
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
