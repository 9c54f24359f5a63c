"""cuDNN's attention, one of those that torch's `scaled_dot_product_attention` chooses from.

In 16-bit precision on GPUs of compute capability 9.0 and 10.0, torch since 2.10 prefers it to FlashAttention from cuDNN
9.15.1, which mended its faults with lengths that are no multiples of 128. Training leaves that choice to torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Context manager in which attention is not computed by cuDNN.

    cuDNN prepares a plan for each shape that it has not seen, for some tens of milliseconds. While a text is generated,
    every token has a new number of keys.
    """
    if not torch.backends.cuda.cudnn_sdp_enabled():
        yield
        return
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)
