"""Reading metrics.csv, whole and broken."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves.metrics_csv import FILE, read_metrics
from gpt2_lightning.training.loggers.csv_logger import FILE as WRITTEN
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from tests.inspection.metrics_of_runs import USUAL, write_run


def test_what_the_logger_writes_is_read(tmp_path: Path) -> None:
    assert FILE == WRITTEN
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"tokens": 100, "train/loss": 4.0}, step=1)
    logger.log_metrics({"tokens": 200, "val/loss": 3.5}, step=2)
    logger.log_metrics({"tokens": 300, "train/loss": math.nan, "extra": 7.0}, step=3)
    metrics = read_metrics(tmp_path / FILE)
    assert metrics.column("step").values.tolist() == [1, 2, 3]
    assert metrics.column("val/loss").rows.tolist() == [1]
    assert metrics.points("tokens", "extra")[0].tolist() == [300]
    assert math.isnan(metrics.column("train/loss").values[1])


def test_seconds_of_training_by_hand(tmp_path: Path) -> None:
    metrics = read_metrics(write_run(tmp_path / "run", USUAL) / FILE)
    assert metrics.seconds().values.tolist() == [10, 15, 15, 55, 55]
    assert metrics.points("time", "val/loss")[0].tolist() == [15, 55]


def test_seconds_are_unknown_without_a_speed(tmp_path: Path) -> None:
    rows = "10,0.1,1000,4.0,,0.001,\n20,0.2,2000,3.0,,0.001,nan\n30,0.3,3000,3.0,,0.001,0"
    metrics = read_metrics(write_run(tmp_path / "run", rows) / FILE)
    assert len(metrics.seconds().values) == 0
    assert len(metrics.points("time", "train/loss")[0]) == 0


def test_a_last_line_without_an_end_is_passed_over(tmp_path: Path) -> None:
    """`3.0` may be what is left of 3.0625."""
    metrics = read_metrics(write_run(tmp_path / "run", USUAL + "50,0.5,5000,3.0", end="") / FILE)
    assert metrics.column("train/loss").values.tolist() == [4, 3, 2]


def test_a_line_that_was_cut_off_is_told(tmp_path: Path) -> None:
    assert read_metrics(write_run(tmp_path / "cut", USUAL + "50,0.5,5000,3.0", end="") / FILE).is_cut_off
    whole = read_metrics(write_run(tmp_path / "whole", USUAL) / FILE)
    assert (whole.is_cut_off, whole.unreadable) == (False, 0)


@pytest.mark.parametrize(
    ("line", "losses"),
    [
        ("20,0.2,2000,3.O,,0.002,200", [4, 2]),  # a letter in place of a digit
        ('20,0.2,2000,"3.0,,0.002,200', [4, 2]),  # a quote without an end
        ("20,0.2,2000,3.0,,\x00,200", [4, 3, 2]),
        ("20,0.2,20", [4, 2]),  # two lines run into one another, or half of one
        ("20,0.2,2000,3.0,,0.002,200,7", [4, 3, 2]),
        (",0.2,2000,3.0,,0.002,200", [4, 2]),  # no step
    ],
)
def test_broken_lines_are_counted_and_read_as_far_as_they_go(tmp_path: Path, line: str, losses: list[float]) -> None:
    rows = f"10,0.1,1000,4,,0.001,100\n{line}\n30,0.3,3000,2,,0.001,nan"
    metrics = read_metrics(write_run(tmp_path / "run", rows) / FILE)
    assert metrics.unreadable == 1
    assert metrics.column("train/loss").values.tolist() == losses


def test_a_step_of_zero_counts_and_one_that_is_no_number_does_not(tmp_path: Path) -> None:
    rows = "0,0,0,4.5,,,\n,,,9,,,\nnan,0,0,9,,,\nx,0,0,9,,,\n10,0,100,4,,,"
    metrics = read_metrics(write_run(tmp_path / "run", rows) / FILE)
    assert metrics.points("step", "train/loss")[0].tolist() == [0, 10]


@pytest.mark.parametrize("content", [b"", b"step,train/loss\n", b"loss\n4\n", b"\x00\xff,\n\x00,1\n", b"\n\n\n"])
def test_a_file_without_figures_has_no_columns(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_metrics(tmp_path / FILE).columns == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read"):
        read_metrics(tmp_path / FILE)
