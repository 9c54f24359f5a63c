"""The verb `evaluate`: metrics of a model on benchmarks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.api.load import load
from gpt2_lightning.app.evaluation.progress import Bars
from gpt2_lightning.app.evaluation.settings import Config
from gpt2_lightning.app.evaluation.table import print_comparisons, print_results
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops
from gpt2_lightning.checkpoints.folder import EVALUATION, evaluation_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark
from gpt2_lightning.evaluation.comparison import compare
from gpt2_lightning.evaluation.evaluate import evaluate, items_of
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.comparison_page import write_comparison_page
from gpt2_lightning.huggingface import hub
from gpt2_lightning.pretrained.devices import other_devices

__all__ = ["Config", "run"]


COMPARISON = "comparison.html"
"""The page of `compare_with`, in the folder of the results."""


def run(plain: dict[str, Any]) -> None:
    """Measure a model on benchmarks, print a table, and write the results.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    benchmarks = config.made_benchmarks()
    model = _load(config, config.checkpoint)
    folder = _folder(config, model) if config.output is None else Path(config.output).expanduser()
    other = None if config.compare_with is None else _Other.load(config, config.compare_with, folder)
    if other is not None:
        items_of(benchmarks, other.model.subject(), config.data_folder())  # find faults before the first is measured
    try:
        results = _evaluate(config, benchmarks, model, folder)
        if other is not None:
            _evaluate(config, benchmarks, other.model, other.folder)
    except KeyboardInterrupt:
        print(f"what is done is kept in {display_path(folder)}; the same command continues", file=sys.stderr)
        raise
    with until_the_reader_stops():
        print_results(results)
    if other is not None:
        comparisons = compare(benchmarks, folder, other.folder)
        with until_the_reader_stops():
            print_comparisons(comparisons, other.model.location)
        write_comparison_page(comparisons, model.location, other.model.location, folder / COMPARISON)
    with until_the_reader_stops():
        print(f"wrote {display_path(folder)}")


@dataclass(frozen=True)
class _Other:
    """The model of `compare_with`."""

    model: LanguageModel
    folder: Path

    @classmethod
    def load(cls, config: Config, source: str, folder: Path) -> _Other:
        """Load the model.

        Raises:
            UserError: if it is not one, or its results are in the folder of the checkpoint's.
        """
        model = _load(config, source)
        own = _folder(config, model)
        if own.resolve() == folder.resolve():
            raise UserError(f"compare_with: {source} is the checkpoint itself; name another model")
        return cls(model, own)


def _evaluate(
    config: Config, benchmarks: dict[str, Benchmark], model: LanguageModel, folder: Path
) -> list[BenchmarkResult]:
    subject = model.subject(config.tokens_per_batch, other_devices(config.device))
    with Bars() as bars:
        return list(evaluate(benchmarks, subject, config.data_folder(), folder, config.overwrite, bars.begin))


def _load(config: Config, source: str) -> LanguageModel:
    model = load(
        source,
        device=config.device,
        dtype=config.dtype,
        quantize=config.quantize,
        runs_dir=config.runs_dir,
        base=config.base,
    )
    for note in (f"from {model.location}", *model.notes):
        print(note, file=sys.stderr)
    return model


def _folder(config: Config, model: LanguageModel) -> Path:
    """Return the default folder of the results of a model."""
    if model.location.startswith(hub.SCHEME):
        name = model.location.removeprefix(hub.SCHEME).replace("/", "--")
        return Path(config.runs_dir).expanduser() / EVALUATION / name
    return evaluation_of(Path(model.location))
