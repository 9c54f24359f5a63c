"""Logger for `metrics.csv`, which stays consistent when a run is killed and resumed."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from gpt2_lightning.atomic import replacing, write_text
from gpt2_lightning.errors import UserError

log = logging.getLogger(__name__)

FILE = "metrics.csv"
GIT = "git.yaml"
_FIRST_COLUMNS = ["step", "epoch", "tokens", "train/loss", "val/loss"]


class CSVLogger(Logger):
    """Write one row per call of `log_metrics`, immediately; cells of missing metrics are empty.

    A resumed run drops the rows of steps that it repeats. A new key adds a column. Rows that cannot be written, such as
    on a full disk, are kept and written with a later row, or at the end of the run.

    Args:
        run_dir: the run's folder, for `metrics.csv` and `git.yaml`.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.file = run_dir / FILE
        self._columns: list[str] | None = None
        """Columns of the file; None if it has to be rewritten."""
        self._rows: list[dict[str, Any]] = []
        """Rows since the beginning of the latest step, or of the first one with a row that could not be written."""

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
        if self._columns is not None and self._rows[-1]["step"] != step:
            self._rows.clear()
        self._rows.append(row)
        was_written = self._columns is not None or len(self._rows) == 1
        try:
            self._write(row)
        except OSError as error:
            self._columns = None
            if was_written:
                log.warning(
                    "%s cannot be written: %s; its rows are kept, and written as soon as possible",
                    self.file,
                    error.strerror,
                )

    def finalize(self, status: str) -> None:
        """Write the rows that could not be written before.

        Raises:
            UserError: if they still cannot be written.
        """
        if self._columns is None and self._rows:
            try:
                self._take_up()
            except OSError as error:
                raise UserError(
                    f"the metrics file {self.file} cannot be written: {error.strerror}; {len(self._rows)} rows are lost"
                ) from None

    def _write(self, row: dict[str, Any]) -> None:
        if self._columns is None:
            self._take_up()
        elif new := [key for key in row if key not in self._columns]:
            self._rewrite([*self._read(), row], self._columns + new)
        else:
            with self.file.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _take_up(self) -> None:
        """Rewrite the file: rows of a run that is resumed, up to the first step of `_rows`, then these."""
        first = self._rows[0]["step"]
        kept = [old for old in self._read() if _step(old) < first] if self.file.exists() else []
        columns = list(kept[0]) if kept else _FIRST_COLUMNS
        self._rewrite(
            [*kept, *self._rows], list(dict.fromkeys([*columns, *(key for row in self._rows for key in row)]))
        )

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
