"""torch.compile and activation checkpointing, which change speed and memory and not the result."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier

Compile = bool | Literal["default", "max-autotune", "max-autotune-no-cudagraphs"]
"""Whether to compile, or the mode of `torch.compile`; reduce-overhead, which only adds CUDA graphs, is not allowed."""
_MODES = {True: "default", "max-autotune": "max-autotune-no-cudagraphs"}
"""Modes without CUDA graphs: the graph of one block would invalidate the output of the previous one, its own input."""


def compile_fault(wanted: Compile) -> str | None:
    """Return why this machine cannot compile, with alternatives; None if it can, or if `wanted` is False."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not wanted or sys.platform == "win32" or shutil.which(compiler):
        return None
    return (
        f"compile: there is no C++ compiler '{compiler}' on this machine, which torch.compile needs; install it, name "
        "another in the environment variable CXX, or set compile=false"
    )


def compile_blocks(network: GPT2 | Classifier, wanted: Compile) -> None:
    """Compile the blocks in place, which keeps the names of parameters.

    All blocks have the same code and are compiled once, in a fraction of the time of the whole network. Compilation
    happens at the first forward pass, and again for at most two other shapes, after which shapes are dynamic.
    """
    if wanted:
        # Under DDP, gradients of one block are reduced while another computes; its graph need not be split for that.
        torch._dynamo.config.optimize_ddp = False
        for block in language_model(network).h:
            block.compile(mode=_MODES.get(wanted, wanted))


def recompute_activations(network: GPT2 | Classifier, wanted: bool) -> None:
    """Recompute the activations of the blocks in the backward pass; see `GPT2.gradient_checkpointing`."""
    language_model(network).gradient_checkpointing = wanted


def language_model(network: GPT2 | Classifier) -> GPT2:
    """Return the language model: the network itself, or the transformer of a classifier."""
    return network.transformer if isinstance(network, Classifier) else network


def as_written() -> AbstractContextManager[None]:
    """Return a context manager that runs compiled networks eagerly, since each generated token has a new shape."""
    return torch.compiler.set_stance("force_eager")
