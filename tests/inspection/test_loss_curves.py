from pathlib import Path

import pytest
from matplotlib.image import imread

from gpt2_lightning.inspection.curves.loss_curve import draw_loss, read_points
from tests.inspection.pixels import ink

METRICS = """step,epoch,tokens,train/loss,val/loss,lr
10,0.1,70,4.5,,0.001
20,0.2,140,4.25,,0.002
20,0.2,140,,4.125,
30,0.3,210,4.0,,0.003
40,0.4,280,,3.5,
"""


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    file = tmp_path / "metrics.csv"
    file.write_text(METRICS, encoding="utf-8")
    return file


BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def test_a_column_is_read_where_it_has_values(metrics: Path) -> None:
    assert read_points(metrics, "train/loss") == ([10, 20, 30], [4.5, 4.25, 4.0])
    assert read_points(metrics, "val/loss") == ([20, 40], [4.125, 3.5])
    assert read_points(metrics, "unknown") == ([], [])


@pytest.mark.parametrize("cut_off", ["50", "50,0.5,350", "50,0.5,350,", "x,0.5,350,1.0"])
def test_a_row_that_was_cut_off_is_passed_over(metrics: Path, cut_off: str) -> None:
    metrics.write_text(METRICS + cut_off, encoding="utf-8")
    assert read_points(metrics, "train/loss") == ([10, 20, 30], [4.5, 4.25, 4.0])


def test_a_file_without_rows_has_no_points(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    for content in ("", "step,epoch,tokens,train/loss,val/loss\n"):
        file.write_text(content, encoding="utf-8")
        assert read_points(file, "train/loss") == ([], [])


def test_the_picture_shows_both_curves(metrics: Path, tmp_path: Path) -> None:
    picture = tmp_path / "loss.png"
    draw_loss(metrics, picture, "a run")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    height, width = imread(picture).shape[:2]
    assert (width, height) == (1050, 630)
    assert ink(picture, BLUE) > 500
    assert ink(picture, ORANGE) > 500


def test_a_run_without_validation_has_one_curve(tmp_path: Path) -> None:
    metrics, picture = tmp_path / "metrics.csv", tmp_path / "loss.png"
    metrics.write_text("step,train/loss\n10,4.5\n20,4.0\n", encoding="utf-8")
    draw_loss(metrics, picture, "a run")
    assert ink(picture, BLUE) > 500
    assert ink(picture, ORANGE) == 0


def test_an_empty_run_is_drawn(tmp_path: Path) -> None:
    metrics, picture = tmp_path / "metrics.csv", tmp_path / "loss.png"
    metrics.write_text("step,train/loss,val/loss\n", encoding="utf-8")
    draw_loss(metrics, picture, "a run")
    assert picture.stat().st_size > 5_000
