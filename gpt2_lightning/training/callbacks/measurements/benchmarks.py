"""Benchmarks during training."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Items, Subject
from gpt2_lightning.evaluation.evaluate import items_of, measure
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.settings import PathText, PositiveInt, checked
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.measurements.evaluation_mode import evaluating, language_model_of
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.stopping.step_limit import is_last_step
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.compilation import as_written

log = logging.getLogger(__name__)

FOLDER = "benchmarks"
"""First part of the names of the metrics."""


class Benchmarks(L.Callback):
    """Measure the model on benchmarks every n steps and at the last one, always on the same items.

    The metrics are logged as `benchmarks/NAME/METRIC`, and may judge the run (`monitor`). They equal those of the verb
    `evaluate` with the limit `sample` on a checkpoint of the step. The model and the random state of training are
    unchanged. Rank zero measures, and the others wait.

    Args:
        benchmarks: the benchmarks by name.
        data_dir: a folder with a folder of data for each benchmark; None to fetch the data.
        every_n_steps: optimizer steps between two measurements. The last step is always measured.
        sample: number of items, evenly spaced, of each benchmark without a limit of its own; None for all.
        tokens_per_batch: largest number of tokens of a forward pass, padding included.

    Raises:
        ValueError: if a number is below 1.
    """

    @checked
    def __init__(
        self,
        benchmarks: Mapping[str, Benchmark],
        data_dir: PathText | None = None,
        every_n_steps: PositiveInt = 500,
        sample: PositiveInt | None = 200,
        tokens_per_batch: PositiveInt = 8192,
    ) -> None:
        self.benchmarks = {name: _limited(benchmark, sample) for name, benchmark in benchmarks.items()}
        self.data_dir = None if data_dir is None else Path(data_dir).expanduser()
        self.every_n_steps, self.tokens_per_batch = every_n_steps, tokens_per_batch
        self._items: dict[str, Items] = {}
        self._last_seen_step = 0
        self._measured_step = -1

    def metric_names(self) -> list[str]:
        """Return the folders of the metrics; see `LogsMetrics`."""
        return [f"{FOLDER}/{name}/" for name in self.benchmarks]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the items of all benchmarks, on rank zero.

        Raises:
            UserError: if the data of a benchmark is absent or invalid, or one does not apply to the model.
        """
        assert isinstance(pl_module, TrainingModule)
        self._last_seen_step = trainer.global_step
        with pl_module.full_model() as whole:
            if whole is not None:
                self._items = items_of(self.benchmarks, self._subject(pl_module, whole), self.data_dir)
            for name, items in self._items.items():
                log.info("benchmark %s: %s items of %s", name, f"{len(items.items):,}", items.source)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = trainer.global_step
        if stepped and (is_last_step(trainer) or trainer.global_step % self.every_n_steps == 0):
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._measured_step != trainer.global_step:  # the validation of this step has ended the run
            self._measure(trainer, pl_module)

    def _measure(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        metrics = Metrics.of(trainer)
        metrics.throughput.pause()
        with module.full_model() as whole:
            values = distributed.broadcast(lambda: self._values(module, whole))
        self._measured_step = trainer.global_step
        metrics.log_measured(trainer, values)

    def _values(self, module: TrainingModule[Any, Any], whole: nn.Module | None) -> dict[str, float]:
        """Return the metrics of all benchmarks, on rank zero."""
        assert whole is not None, "rank zero has the unsharded model"
        values: dict[str, float] = {}
        with evaluating(whole), as_written(), torch.random.fork_rng(), torch.no_grad():
            subject = self._subject(module, whole)
            for name, benchmark in self.benchmarks.items():
                found = measure(name, benchmark, subject, self._items[name]).metrics
                values |= {f"{FOLDER}/{name}/{metric.name}": metric.value for metric in found}
                shown = ", ".join(f"{metric.value:.4g} {metric.name}" for metric in found)
                log.info("step %s: %s: %s", f"{module.trainer.global_step:,}", name, shown)
        return values

    def _subject(self, module: TrainingModule[Any, Any], whole: nn.Module) -> Subject:
        description = module.description
        return Subject(
            language_model_of(whole),
            description.tokenizer,
            "the model in training",
            module.trainer.global_step,
            description.task,
            whole if isinstance(whole, Classifier) else None,
            description.run_config,
            self.tokens_per_batch,
        )


def _limited(benchmark: Benchmark, sample: int | None) -> Benchmark:
    """Return a benchmark with a limit, unless it has one of its own, or no such setting."""
    assert dataclasses.is_dataclass(benchmark), "benchmarks are dataclasses"
    return dataclasses.replace(benchmark, limit=sample) if getattr(benchmark, "limit", sample) is None else benchmark
