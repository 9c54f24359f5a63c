"""The verb `evaluate`: metrics of a model on benchmarks."""

from __future__ import annotations

import sys
from typing import Any

from gpt2_lightning.api.load import load
from gpt2_lightning.app.evaluation.progress import Bars
from gpt2_lightning.app.evaluation.settings import Config
from gpt2_lightning.evaluation.evaluate import evaluate

__all__ = ["Config", "run"]


def run(plain: dict[str, Any]) -> None:
    """Measure a model on benchmarks, print a table, and write the results.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    benchmarks = config.made_benchmarks()
    model = load(
        config.checkpoint, device=config.device, dtype=config.dtype, runs_dir=config.runs_dir, base=config.base
    )
    for note in (f"from {model.location}", *model.notes):
        print(note, file=sys.stderr)
    subject = model.subject(config.tokens_per_batch)
    with Bars() as bars:
        results = evaluate(benchmarks, subject, config.data_folder(), bars.begin)
    for result in results.values():
        print(result)
