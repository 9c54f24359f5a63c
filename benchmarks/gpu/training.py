"""Measurement of training steps, by the Trainer of a run, and of the search for the size of their micro-batches."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

from benchmarks.gpu.data import Texts, stories
from benchmarks.gpu.rows import Row, mfu, peak_memory, timed
from benchmarks.gpu.scale import Scale, Size
from benchmarks.gpu.variants import applied
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.size import flops_per_token
from gpt2_lightning.tokenizers import GPT2Tokenizer
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Metrics, assemble
from gpt2_lightning.training.instruction_tuning import InstructionTuning
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW, OptimizerSpec
from gpt2_lightning.training.performance.compilation import Compile, compile_blocks
from gpt2_lightning.training.performance.micro_batch_search import find_micro_batch
from gpt2_lightning.training.precision import Precision
from gpt2_lightning.training.schedules import Cosine
from gpt2_lightning.training.trainer import TrainerSpec

_ENDLESS = 10**6
_VALIDATION_BATCHES = 2


def train(
    scale: Scale,
    size: Size = "124M",
    rows: int | None = None,
    accumulate: bool = False,
    compiled: Compile = True,
    precision: Precision = "bf16",
    padded: bool = True,
    optimizer: OptimizerSpec | None = None,
    texts: Texts = "joined",
    strategy: Literal["single", "ddp", "fsdp"] = "single",
    variant: str | None = None,
    callbacks: tuple[L.Callback, ...] = (),
) -> Iterator[Row]:
    """Train on the embedded stories, then validate once.

    Args:
        scale: the scale.
        size: the model.
        rows: rows of a micro-batch; None for the scale's.
        accumulate: whether a step has the scale's `step_rows`, instead of one micro-batch.
        compiled: whether to compile the blocks, or the compiler's mode.
        precision: precision of the run.
        padded: whether the vocabulary is padded to a multiple of 64.
        optimizer: settings of the optimizer; None for AdamW.
        texts: the training texts.
        strategy: `single`, or a strategy with one rank.
        variant: a variant of the product's code, see `variants`.
        callbacks: callbacks beside those that every run has.
    """
    config = scale.config(size, padded)
    rows = rows or scale.rows[size]
    parts = scale.step_rows // rows if accumulate else 1
    stopwatch = _Stopwatch(scale)
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        opened.enter_context(applied(variant))
        if strategy != "single":
            opened.enter_context(one_rank(scale))
        data = stories(folder, config.block_size, rows * parts, rows, texts)
        module = make_module(config, "cpu" if strategy == "fsdp" else scale.device, compiled, optimizer, texts)
        spec = TrainerSpec(
            val_check_interval=_ENDLESS,
            limit_val_batches=_VALIDATION_BATCHES,
            accelerator=scale.device,
            precision=precision,
            strategy=strategy,
        )
        of_a_run = assemble(Metrics(10, precision), callbacks)
        trainer = spec.build(_ENDLESS, parts, [stopwatch, *of_a_run], [])
        trainer.fit(module, datamodule=data)
    tokens = rows * parts * config.block_size
    row = timed(stopwatch.seconds, tokens)
    row["first_seconds"] = stopwatch.first_seconds
    row["remark"] = f"{tokens:,} tokens a step in micro-batches of {rows}"
    yield row | peak_memory(scale) | mfu(scale, row["tokens_per_second"] * flops_per_token(config), precision)


def search(scale: Scale) -> Iterator[Row]:
    """Search the micro-batch of 124M, in bf16 and steps of 0.5 million tokens, as `micro_batch_size=auto`.

    Blocks are eager: each of some ten trials compiles anew, which would take longer than a part may.
    """
    config = scale.config("124M")
    spec = TrainerSpec(accelerator=scale.device, precision="bf16")
    with tempfile.TemporaryDirectory() as folder:
        data = stories(Path(folder), config.block_size, scale.step_rows, 1)
        began = time.perf_counter()
        found = find_micro_batch(
            lambda: make_module(config, scale.device, compiled=False), data, spec, scale.step_rows, config.block_size
        )
        seconds = time.perf_counter() - began
    yield {"remark": f"micro-batches of {found}, found in {seconds:.1f} s"}


def make_module(
    config: GPT2Config,
    device: str,
    compiled: Compile = True,
    optimizer: OptimizerSpec | None = None,
    texts: Texts = "joined",
) -> LanguageModeling:
    """Return the LightningModule of a model with random weights, which are drawn on a device."""
    torch.manual_seed(0)
    with torch.device(device):
        network = GPT2(config)
    compile_blocks(network, compiled)
    description = Description(config, GPT2Tokenizer(), {})
    task = InstructionTuning if texts == "instructions" else LanguageModeling
    return task(network, optimizer or AdamW(lr=6e-4), Cosine(), description)


@contextlib.contextmanager
def one_rank(scale: Scale) -> Iterator[None]:
    """Make this process the only rank of a run, as torchrun does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    numbers = {"RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "benchmark"}
    os.environ |= {name: str(value) for name, value in (numbers | place).items()}
    distributed.join(scale.device == "cuda", TrainerSpec(timeout=60.0).waits)
    try:
        yield
    finally:
        distributed.leave()
        for name in (*numbers, *place):
            del os.environ[name]


class _Stopwatch(L.Callback):
    """Measure the first step and stretches of steps, with the device synchronized at both ends; then end the run."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.first_seconds = math.nan
        self.seconds: list[float] = []
        """Seconds of a step, of each stretch."""
        self._laps = self._measure()
        self._step = self._steps = self._until = 0
        self._began = 0.0

    def _measure(self) -> Generator[int, float]:
        """Yield numbers of steps, and receive the seconds of one of these steps."""
        scale = self.scale
        self.first_seconds = yield 1
        yield scale.warm_up
        once = yield 1
        steps = max(1, min(scale.steps, round(scale.seconds / once)))
        for _ in range(scale.stretches):
            self.seconds.append((yield steps))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start(next(self._laps))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step != self._until or trainer.should_stop:
            return
        self.scale.synchronize()
        try:
            self._start(self._laps.send((time.perf_counter() - self._began) / self._steps))
        except StopIteration:
            trainer.should_stop = True  # triggers a validation

    def _start(self, steps: int) -> None:
        self._steps, self._until = steps, self._until + steps
        self.scale.synchronize()
        self._began = time.perf_counter()
