"""Logger for `metrics.csv`, which stays consistent when a run is killed and resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from gpt2_lightning.atomic import replacing, write_text
from gpt2_lightning.errors import UserError

FILE = "metrics.csv"
GIT = "git.yaml"
_FIRST_COLUMNS = ["step", "epoch", "tokens", "train/loss", "val/loss"]


class CSVLogger(Logger):
    """Write one row per call of `log_metrics`, immediately; cells of missing metrics are empty.

    A resumed run drops the rows of steps that it repeats. A new key adds a column.

    Args:
        run_dir: the run's folder, for `metrics.csv` and `git.yaml`.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.file = run_dir / FILE
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Write the state of the code to `git.yaml`; the other hyperparameters are in the run's folder already."""
        if git := params.get("git"):
            write_text(self.file.with_name(GIT), yaml.safe_dump(git), durable=False)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        try:
            if self._columns is None:
                self._take_up(row)
            elif new := [key for key in row if key not in self._columns]:
                self._rewrite(self._read(), self._columns + new)
            with self.file.open("a", newline="") as file:
                csv.DictWriter(file, self._columns or []).writerow(row)
        except OSError as error:
            raise UserError(f"the metrics file {self.file} cannot be written: {error.strerror}") from None

    def _take_up(self, row: dict[str, Any]) -> None:
        kept = [old for old in self._read() if _step(old) < row["step"]] if self.file.exists() else []
        found = list(kept[0]) if kept else _FIRST_COLUMNS
        self._rewrite(kept, found + [key for key in row if key not in found])

    def _read(self) -> list[dict[str, Any]]:
        whole, _, _ = self.file.read_text().rpartition("\n")  # a crash may have truncated the last line
        return list(csv.DictReader(whole.splitlines()))

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        with replacing(self.file, durable=False) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self._columns = columns


def _step(row: dict[str, Any]) -> float:
    try:
        return float(row["step"])
    except (TypeError, ValueError):
        return float("inf")  # truncated by a crash
