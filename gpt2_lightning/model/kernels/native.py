"""Kernels in C for training on a CPU in float32, compiled for its processor at the first call; else torch's functions.

torch's tanh GELU computes a tanh per element, in most of the time of a small model's step besides its matrix products.
`native.c` takes one exponential and one pass over memory, forward and backward. The compiler takes half a second, once
per process: nothing is cached, so that no file can be outdated or made for another processor.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gpt2_lightning.process_folder import process_folder

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")

log = logging.getLogger(__name__)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """`F.gelu`, by `native.c` where it applies: the tanh approximation of float32 with a gradient on a CPU."""
    if approximate == "tanh" and _applies(x) and library() is not None:
        return _TanhGELU.apply(x)
    return F.gelu(x, approximate=approximate)


def _applies(x: Tensor) -> bool:
    """Whether x is a float32 tensor in main memory, and no FakeTensor or tracer, that takes part in training."""
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.requires_grad
        and x.dtype == torch.float32
        and x.device.type == "cpu"
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """Compile `native.c`; None, after a message in the log, where there is no compiler with OpenMP."""
    with tempfile.TemporaryDirectory(dir=process_folder(), ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "native.so"
        command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS, str(_SOURCE), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True)
            return ctypes.CDLL(str(path))
        except (OSError, subprocess.CalledProcessError) as error:
            log.info("model.kernels=native: torch's functions are used, since there is no C compiler (%s)", error)
            return None


class _TanhGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        return _call("gelu", x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _call("gelu_backward", of_y.contiguous(), x)


def _call(function: str, *inputs: Tensor) -> Tensor:
    """Call a function of `native.c` on contiguous tensors of one shape; return its result, of that shape."""
    result = torch.empty_like(inputs[0])
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, result)]
    getattr(library(), function)(*pointers, ctypes.c_long(result.numel()))
    return result
