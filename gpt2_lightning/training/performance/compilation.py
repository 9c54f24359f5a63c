"""What makes training faster, or lets it fit into less memory, and changes nothing that is computed."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier

Compile = bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""Whether to compile, or torch's name of how."""


def compile_fault(wanted: Compile) -> str | None:
    """Why nothing can be compiled on this machine, and what to do; None if it can, or nothing is to be."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not wanted or sys.platform == "win32" or shutil.which(compiler):
        return None
    return (
        f"compile: there is no C++ compiler '{compiler}' on this machine, which torch.compile needs; install it, name "
        "another in the environment variable CXX, or set compile=false"
    )


def compile_blocks(network: GPT2 | Classifier, wanted: Compile) -> None:
    """Let torch compile the blocks, in place, so that no parameter gets another name.

    All blocks are alike, and so are compiled once, in a fraction of the time that the whole network would take. It
    happens when they first compute, and again for other shapes; the second other shape brings code for all.
    """
    if wanted:
        for block in language_model(network).h:
            block.compile(mode=None if wanted is True else wanted)


def recompute_activations(network: GPT2 | Classifier, wanted: bool) -> None:
    """Let the blocks keep nothing for the backward pass but their input; see `GPT2.gradient_checkpointing`."""
    language_model(network).gradient_checkpointing = wanted


def language_model(network: GPT2 | Classifier) -> GPT2:
    """The network itself, or what its classifier's head reads."""
    return network.transformer if isinstance(network, Classifier) else network


def as_written() -> AbstractContextManager[None]:
    """A context in which compiled networks run as they are written, since growing texts have ever new shapes."""
    return torch.compiler.set_stance("force_eager")
