"""The parts of the benchmark, in the order in which they are measured: the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.gpu.decoding import decode
from benchmarks.gpu.optimizers import step
from benchmarks.gpu.profile import profile
from benchmarks.gpu.programs import program
from benchmarks.gpu.rows import Row
from benchmarks.gpu.saving import save
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.training import search, train
from benchmarks.gpu.variants import SigtermBroadcast
from gpt2_lightning.training.optimizers import AdamW, Muon


@dataclass(frozen=True)
class Part:
    """A measurement in a process of its own."""

    title: str
    measure: Callable[[Scale], Iterator[Row]]
    reference: str | None = None
    """Part to which its speed is relative."""


_TYPED, _BASE = "program/defaults", "train/124m"
PARTS: dict[str, Part] = {
    _TYPED: Part("train.py model=gpt2_124m data=scifi", program),
    _BASE: Part("124M, compiled, steps of 64 rows", train),
    "train/124m-steps": Part("steps of 0.5M tokens", partial(train, accumulate=True), _BASE),
    "profile": Part("kernels that take the longest", profile),
    "ranks/fsdp": Part("fsdp, one rank", partial(train, strategy="fsdp"), _BASE),
    "ranks/fsdp-muon": Part(
        "fsdp with Muon, one rank", partial(train, strategy="fsdp", optimizer=Muon(lr=6e-4)), "muon/training"
    ),
    "ranks/ddp": Part("ddp, one rank", partial(train, strategy="ddp"), _BASE),
    "ranks/ddp-broadcast": Part(
        "ddp with Lightning's broadcast before each micro-batch",
        partial(train, strategy="ddp", callbacks=(SigtermBroadcast(),)),
        "ranks/ddp",
    ),
    "without/compile": Part("blocks eager", partial(train, compiled=False), _BASE),
    "without/fused-loss": Part("loss by separate operations", partial(train, variant="separate-loss"), _BASE),
    "without/loss-chunks": Part("loss in chunks of 2^26 logits", partial(train, variant="small-loss-chunks"), _BASE),
    "without/padding": Part("50,257 rows of the vocabulary", partial(train, padded=False), _BASE),
    "attention/cudnn": Part("attention by cuDNN", partial(train, variant="cudnn-attention"), _BASE),
    "attention/flash": Part("attention by FlashAttention", partial(train, variant="flash-attention"), _BASE),
    "decoding/captured": Part("124M in bfloat16, by a CUDA graph", decode, "decoding/eager"),
    "decoding/eager": Part("124M in bfloat16, kernel by kernel", partial(decode, variant="no-cuda-graph")),
    "decoding/compiled": Part(
        "124M in bfloat16, compiled, by a CUDA graph", partial(decode, compile_step=True), "decoding/eager"
    ),
    "train/1558m": Part("1558M, compiled, steps of 16 rows", partial(train, size="1558M")),
    "documents/masked": Part("attention within documents", partial(train, texts="masked"), _BASE),
    "documents/dense": Part(
        "the same with dense masks", partial(train, texts="masked", variant="dense-masks"), "documents/masked"
    ),
    "documents/instructions": Part("packed instructions", partial(train, texts="instructions"), _BASE),
    "documents/instructions-dense": Part(
        "the same with dense masks",
        partial(train, texts="instructions", variant="dense-masks"),
        "documents/instructions",
    ),
    "muon/training": Part("Muon", partial(train, optimizer=Muon(lr=6e-4)), _BASE),
    "muon/adamw-step": Part("AdamW's step alone", partial(step, spec=AdamW(lr=6e-4))),
    "muon/step": Part("Muon's step alone", partial(step, spec=Muon(lr=6e-4)), "muon/adamw-step"),
    "muon/step-one-matrix": Part(
        "Muon's step, matrix by matrix", partial(step, spec=Muon(lr=6e-4), variant="one-matrix"), "muon/step"
    ),
    "precision/tf32": Part("tf32", partial(train, precision="tf32"), _BASE),
    "precision/fp16": Part("fp16", partial(train, precision="fp16"), _BASE),
    "precision/bf16_true": Part("bf16_true", partial(train, precision="bf16_true"), _BASE),
    "precision/fp32": Part("fp32", partial(train, precision="fp32"), _BASE),
    "without/read-ahead": Part("batches read by the main thread", partial(train, variant="no-read-ahead"), _BASE),
    "saving/checkpoint": Part("a checkpoint, written by a thread", save, "saving/at-once"),
    "saving/at-once": Part("a checkpoint, written at once", partial(save, variant="saving-at-once")),
    "search": Part("micro_batch_size=auto, blocks eager", search),
    "program/compile": Part("the same with compile=true", partial(program, settings=("compile=true",)), _TYPED),
    "program/1558m": Part(
        "train.py model=gpt2_1558m data=scifi, without checkpoints",
        partial(program, size="1558M", settings=("callbacks.checkpoint=null", "callbacks.samples=null")),
    ),
    "program/ddp": Part("torchrun train.py trainer=ddp, one rank", partial(program, trainer="ddp"), _TYPED),
    "program/fsdp": Part("torchrun train.py trainer=fsdp, one rank", partial(program, trainer="fsdp"), _TYPED),
    "train/max-autotune": Part("compile=max-autotune", partial(train, compiled="max-autotune"), _BASE),
}


def chosen(names: list[str]) -> list[str]:
    """Return the parts of these names and of groups such as `without`, in the order of `PARTS`; all if none is named.

    Raises:
        SystemExit: if a name is unknown.
    """
    if unknown := [name for name in names if not any(_belongs(part, name) for part in PARTS)]:
        raise SystemExit(f"there is no part {', '.join(unknown)}; python -m benchmarks.gpu list shows all")
    return [part for part in PARTS if not names or any(_belongs(part, name) for name in names)]


def _belongs(part: str, name: str) -> bool:
    return part == name or part.startswith(f"{name}/")
