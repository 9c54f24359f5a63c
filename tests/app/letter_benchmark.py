"""A benchmark of one's own: the last character of each line of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Item, ItemRecord, Items, Subject
from gpt2_lightning.evaluation.results.intervals import mean
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.settings import PositiveInt, Settings

YAML = """# evaluate benchmarks=letters
# The last character of each line.
letters:
  _target_: tests.app.letter_benchmark.Letters
"""
SECONDS = "SECONDS_OF_A_BATCH"
"""Variable of the environment: how long the measurement of eight items takes."""


@dataclass(frozen=True)
class Letters(Settings, Benchmark):
    """Log-likelihood of the last character of each line, given the others."""

    file: str = "letters.txt"
    """In the folder of the data."""
    limit: PositiveInt | None = None
    """Number of lines."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        file = (data_dir or Path()) / "letters" / self.file
        if not file.is_file():
            raise UserError(f"there is no {file}")
        lines = file.read_text().splitlines()[: self.limit]
        items = [Item(str(number), subject.tokenizer.encode(line)) for number, line in enumerate(lines)]
        return Items(items, str(file), hashlib.sha256(file.read_bytes()).hexdigest(), ("it is made up",))

    @torch.no_grad()
    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        by_length = sorted(items, key=lambda item: -len(item.content))  # padded on the right, which rounds otherwise
        for start in range(0, len(by_length), 8):
            sleep(float(os.environ.get(SECONDS, "0")))
            batch = by_length[start : start + 8]
            rows = [torch.from_numpy(item.content.astype("int64")) for item in batch]
            logits = subject.model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
            for row, ids, item in zip(logits.log_softmax(2), rows, batch, strict=True):
                yield {"id": item.id, "log_likelihood": float(row[len(ids) - 2, ids[-1]])}

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        values = [record["log_likelihood"] for record in records]
        return [mean("log_likelihood", values), Metric("worst", min(values))]
