"""Copies of weights in the layout that the processor multiplies fastest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from gpt2_lightning.memory import left_of_main
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.inference import huge_pages, onednn


@contextlib.contextmanager
def packed(model: nn.Module, rows: int | None = None) -> Iterator[None]:
    """Context manager in which large linear layers multiply by packed copies of their weights, on a CPU.

    This makes decoding up to twice as fast. The copies double the memory of the weights, and take some tenths of a
    second for a network of GPT-2's size. They are not used where gradients are enabled, and the weights must not change
    meanwhile. Nested contexts share the outer one's copies. No copies are made where they would take more than half of
    the memory that is left.

    Args:
        model: a model, or a module of one.
        rows: tokens that most products are for, which the layout depends on; None for several.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    left = left_of_main()
    has_room = left is None or 2 * sum(layer.weight.nbytes for layer in layers) < left
    if not has_room or any(layer.packed is not None for layer in layers):
        yield
        return
    try:
        with torch.inference_mode():
            large = [layer for layer in layers if onednn.is_faster(layer.weight)]
            if rows == 1 and _has_fast_blas() and all(layer.weight.dtype == torch.float32 for layer in large):
                _transpose(large)
            else:
                for layer in large:
                    layer.packed = onednn.pack(layer.weight)
        yield
    finally:
        for layer in layers:
            layer.packed = None


def _has_fast_blas() -> bool:
    """Whether products with a single token are faster by torch's BLAS library, MKL, than by oneDNN."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # not in older versions
    return torch.backends.mkl.is_available() and "Intel" in found.get("cpu_name", "")


def _transpose(layers: Sequence[Linear]) -> None:
    """Pack float32 weights by columns: a product with a vector then adds up what it reads one after the other."""
    weights = [layer.weight.detach().t() for layer in layers]  # (K, N)
    memory = huge_pages.empty(sum(weight.numel() for weight in weights))
    for layer, weight, part in zip(layers, weights, memory.split([weight.numel() for weight in weights]), strict=True):
        layer.packed = part.view(weight.shape).copy_(weight).t()
