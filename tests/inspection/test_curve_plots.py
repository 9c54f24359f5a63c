"""Pictures of curves: formats, colors, and what is drawn of many runs."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gpt2_lightning.inspection.curves.panels import make_panels
from gpt2_lightning.inspection.curves.plots import COLORS, draw
from gpt2_lightning.inspection.curves.runs import Run, read_runs
from gpt2_lightning.inspection.curves.table import group_labels
from tests.inspection.metrics_of_runs import USUAL, write_run
from tests.inspection.pixels import ink

KEYS = ["loss", "learning_rate", "throughput"]


def runs_in(folder: Path, count: int) -> list[Run]:
    return read_runs([write_run(folder / f"run_{i}", USUAL, {"lr": i}) for i in range(count)])


def picture(runs: list[Run], file: Path, keys: list[str] = KEYS, smoothing: float = 0.5) -> Path:
    draw(make_panels(runs, keys, "step", smoothing), group_labels(runs), "a title", file, file.suffix[1:])
    return file


def amount(file: Path, color: str) -> int:
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return ink(file, (red, green, blue))


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats_are_what_their_names_say_and_the_same_each_time(tmp_path: Path, suffix: str, start: bytes) -> None:
    runs = runs_in(tmp_path, 3)
    one = picture(runs, tmp_path / f"one.{suffix}").read_bytes()
    assert one.startswith(start)
    assert one == picture(runs, tmp_path / f"two.{suffix}").read_bytes()


def test_no_setting_of_matplotlib_stays_behind(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    picture(runs_in(tmp_path, 2), tmp_path / "one.svg")
    assert dict(mpl.rcParams) == before


def test_panels_stand_in_two_columns(tmp_path: Path) -> None:
    runs = runs_in(tmp_path, 2)
    assert imread(picture(runs, tmp_path / "three.png")).shape[:2] == (1080, 1800)
    assert imread(picture(runs, tmp_path / "one.png", ["loss"])).shape[:2] == (630, 1050)


def test_each_run_has_its_color_up_to_the_last_there_is(tmp_path: Path) -> None:
    few = picture(runs_in(tmp_path / "few", 3), tmp_path / "few.png", ["loss"])
    assert [amount(few, color) > 50 for color in COLORS] == [True] * 3 + [False] * 4
    many = picture(runs_in(tmp_path / "many", 12), tmp_path / "many.png", ["loss"])
    assert all(amount(many, color) > 50 for color in COLORS)


def test_the_line_as_logged_lies_behind_the_smoothed_one(tmp_path: Path) -> None:
    """A spike that smoothing flattens is seen in the faint line, above the smoothed one."""
    rows = "\n".join(f"{i},0,{i},{90 if i == 50 else 1},,," for i in range(100))
    runs = read_runs([write_run(tmp_path / "run", rows)])
    smoothed = imread(picture(runs, tmp_path / "a.png", ["loss"], 0.9))[..., :3]
    plain = imread(picture(runs, tmp_path / "b.png", ["loss"], 0.0))[..., :3]
    top = slice(90, 200)  # rows of the picture that the spike alone reaches
    faint = (smoothed[top, 300:].max(axis=-1) - smoothed[top, 300:].min(axis=-1)).max()
    strong = (plain[top, 300:].max(axis=-1) - plain[top, 300:].min(axis=-1)).max()
    assert 0.05 < faint < 0.5 < strong


@pytest.mark.parametrize("name", ["a$b$c", "$\\frac$", "_a&<b>"])
def test_names_are_no_formulas(tmp_path: Path, name: str) -> None:
    runs = runs_in(tmp_path, 2)
    draw(make_panels(runs, ["loss"], "step", 0.0), [name, "other"], name, tmp_path / "a.png", "png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_run_of_one_row_and_one_of_no_numbers_are_drawn(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", "10,0.1,1000,4.0,,0.001,100")
    none = write_run(tmp_path / "none", "10,0,1,nan,nan,,\n20,0,2,nan,inf,,")
    file = picture(read_runs([one, none]), tmp_path / "a.png")
    assert amount(file, COLORS[0]) > 20


def test_forty_runs_share_colors_by_line_style_before_any_is_gray(tmp_path: Path) -> None:
    for count, is_gray in ((35, False), (45, True)):
        file = picture(runs_in(tmp_path / str(count), count), tmp_path / f"{count}.svg", ["learning_rate"])
        text = file.read_text()
        assert ("stroke-opacity: 0.4" in text) == is_gray
        dashes = set(re.findall(r"stroke-dasharray: ([\d. ,]+)", text))
        assert len(dashes) == 2 * 4, "beside the solid ones, in the widths of a line and of the legend"


def test_runs_of_a_group_are_faint_behind_their_mean(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / str(seed), USUAL, {"seed": seed, "lr": 1}) for seed in range(3)])
    text = picture(runs, tmp_path / "a.svg", ["loss"], 0.0).read_text()
    assert text.count("stroke-opacity: 0.3") == 2 * 3
