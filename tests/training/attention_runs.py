"""Runs that measure attention, alike on one process and several."""

from __future__ import annotations

import csv
from pathlib import Path

from gpt2_lightning.inspection.attention.scores import SCORES
from gpt2_lightning.training.callbacks import Attention
from tests.training.short_run import Plan


def scores_of(run_dir: Path) -> dict[tuple[int, str], dict[tuple[int, int], dict[str, float]]]:
    """By step and text; then by layer and head."""
    found: dict[tuple[int, str], dict[tuple[int, int], dict[str, float]]] = {}
    with (run_dir / "attention.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            of_heads = found.setdefault((int(row["step"]), row["text"]), {})
            of_heads[int(row["layer"]), int(row["head"])] = {name: float(row[name]) for name in SCORES}
    return found


def measuring(folder: Path, micro_batch_size: int = 3) -> Plan:
    """A run that measures; of one process with micro-batches of 6, of two with 3."""
    return Plan(folder, 6, micro_batch_size=micro_batch_size, callbacks=[Attention(folder, 2, 4)])
