"""A run of a tiny model on a tiny random text, in this process, with all that belongs to a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torchmetrics import Metric

from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Checkpointing, Metrics
from gpt2_lightning.training.callbacks.assemble import assemble
from gpt2_lightning.training.callbacks.measurements import throughput
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.metrics.monitor import Monitor
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.saving.checkpoint_io import AtomicCheckpointIO, writes_of
from gpt2_lightning.training.schedules import Constant, Schedule
from gpt2_lightning.training.trainer import TrainerSpec

ALPHABET = "abcdé fgh€\n"
BLOCK = 7
CONFIG = GPT2Config(vocab_size=len(ALPHABET), block_size=BLOCK, n_layer=2, n_head=2, n_embd=10)


@dataclass(frozen=True)
class Plan:
    """The settings of a run; the defaults validate at steps 4, 8 and 12, and log and save every second step."""

    run_dir: Path
    max_steps: int = 12
    batch_size: int = 6
    micro_batch_size: int = 6
    model: GPT2Config = CONFIG
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-2))
    schedule: Schedule = field(default_factory=lambda: Constant(warmup_steps=3))
    trainer: dict[str, Any] = field(default_factory=dict)
    checkpointing: dict[str, int] = field(default_factory=dict)
    callbacks: Sequence[L.Callback] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    monitor: Monitor | None = None
    seed: int = 0
    documents: Documents = "joined"
    """Where they are told apart, each line is one."""


class Run:
    """A run: `fit` does it, the rest is what it left."""

    def __init__(self, plan: Plan, tokens: Tokens) -> None:
        """Make everything in the order in which the program makes it, but for what a user sees."""
        self.run_dir = plan.run_dir
        self.run_dir.mkdir(exist_ok=True)
        self.data = TokenDataModule(
            [tokens],
            plan.model.block_size,
            plan.batch_size,
            plan.micro_batch_size,
            plan.seed,
            documents=plan.documents,
            end_of_text=int(CharTokenizer(ALPHABET).encode("\n")[0]),
        )
        torch.manual_seed(plan.seed)
        description = Description(plan.model, CharTokenizer(ALPHABET, "error"), {"seed": plan.seed})
        self.module = LanguageModeling(GPT2(plan.model), plan.optimizer, plan.schedule, description)
        self.module.metrics.update(plan.metrics)
        settings = {"val_check_interval": 4, "log_every_n_steps": 2, "accelerator": "cpu", **plan.trainer}
        spec = TrainerSpec(**settings)
        self.module.eval_train_batches = spec.eval_train_batches
        self.metrics = Metrics(spec.log_every_n_steps, monitor=plan.monitor)
        last = Checkpointing(self.run_dir, **{"every_n_steps": 2, "keep": 99, **plan.checkpointing})
        self.checkpoint_io = AtomicCheckpointIO()
        self.trainer = spec.build(
            plan.max_steps,
            accumulate=plan.batch_size // (plan.micro_batch_size * distributed.world_size()),
            callbacks=assemble(self.metrics, [last, *plan.callbacks]),
            loggers=[CSVLogger(self.run_dir)] if distributed.is_rank_zero() else [],
            checkpoint_io=self.checkpoint_io,
        )

    def fit(self, resume: Path | None = None) -> Run:
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=resume, weights_only=True)
        return self

    @property
    def model(self) -> GPT2:
        return self.module.model

    def checkpoint(self, name: str) -> dict[str, Any]:
        return torch.load(self.run_dir / "checkpoints" / name, weights_only=True)

    def checkpoint_names(self) -> list[str]:
        return sorted(file.name for file in (self.run_dir / "checkpoints").iterdir())

    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv without the columns that depend on the clock."""
        with (self.run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return [{k: v for k, v in row.items() if k not in throughput.METRICS} for row in csv.DictReader(file)]

    def column(self, name: str) -> dict[int, float]:
        """Values of a column by step."""
        return {int(row["step"]): float(row[name]) for row in self.rows() if row[name]}


class InBackground(L.Callback):
    """Let a thread write the checkpoints, as on a GPU."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        writes_of(trainer).start()


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two nested values are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tensors(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same_tensors(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
