"""Reports as files."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from gpt2_lightning.data.tables import LabeledText
from tests.label_kinds.labeled_rows import LABELS, MULTI, REGRESSION, SINGLE, answers, by_hand, several


def test_a_page_has_the_figures_and_its_pictures(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    file = by_hand().write("Spam: test", tmp_path)
    page = file.read_text(encoding="utf-8")
    assert file == tmp_path / "report.md"
    assert page.startswith("# Spam: test\n\n4 rows.")
    assert "| accuracy | 0.7500 | " in page
    assert "| always answering ham | 0.7500 |" in page
    assert "| ham | 3 | 1.0000 | 0.6667 | 0.8000 | 0.6667 |" in page
    assert "| 0.9000 | ham | spam | b |" in page
    for name in ("confusion", "reliability", "roc"):
        assert f"]({name}.png)" in page
        assert imread(tmp_path / f"{name}.png").std() > 0.05, "something is drawn"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.png",
        "reliability.png",
        "report.md",
        "roc.png",
    ]
    assert dict(mpl.rcParams) == before


def test_texts_and_names_are_no_markdown(tmp_path: Path) -> None:
    text = "a | b\n# *c* <script> [d](e) `f` $x$ " + "g" * 400
    rows = [LabeledText(text, "x|y"), LabeledText("fine", "$z$")]
    outputs = np.array([[0.1, 0.9], [0.2, 0.8]], dtype=np.float32)
    file = SINGLE.report(rows, outputs, ["x|y", "$z$"]).write("_title_", tmp_path)
    page = file.read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("| 0.9000")]
    assert r"a \| b \# \*c\* \<script\> \[d\](e) \`f\` \$x\$ ggg" in line
    assert line.endswith("g… |")
    assert r"| x\|y | 1 |" in page
    assert page.startswith(r"# \_title\_")


@pytest.mark.parametrize("count", [2, 12, 20, 70])
def test_any_number_of_classes_is_drawn(tmp_path: Path, count: int) -> None:
    labels = [f"a rather long name of class {i}" for i in range(count)]
    dice = np.random.default_rng(0)
    rows = [LabeledText("t", label) for label in labels * 2]
    outputs = dice.dirichlet(np.ones(count), 2 * count).astype(np.float32)
    SINGLE.report(rows, outputs, labels).write("many", tmp_path)
    height, width, _ = imread(tmp_path / "confusion.png").shape
    assert max(height, width) < 3000
    assert 0.6 < width / height < 1.6


def test_several_classes_have_no_confusion_matrix(tmp_path: Path) -> None:
    rows, outputs, _ = several(50)
    page = MULTI.report(rows, outputs, LABELS).write("several", tmp_path).read_text(encoding="utf-8")
    assert "| exact match of all classes |" in page
    assert not (tmp_path / "confusion.png").exists()


def test_numbers_have_a_page(tmp_path: Path) -> None:
    rows = [LabeledText(f"row {i}", float(i)) for i in range(30)]
    found = REGRESSION.report(rows, np.arange(1, 31, dtype=np.float32), ())
    page = found.write("numbers", tmp_path).read_text(encoding="utf-8")
    assert "| mean absolute error | 1.0000 | 1.0000 to 1.0000 |" in page
    assert "| Pearson correlation | 1.0000 | 1.0000 to 1.0000 |" in page
    assert "always answering the median, 14.5 | 7.5000 |" in page
    assert imread(tmp_path / "scatter.png").std() > 0.05


def test_a_report_without_errors_and_curves_is_written(tmp_path: Path) -> None:
    rows, _, _ = answers(5)
    rows = [LabeledText(row.text, "ham") for row in rows]
    outputs = np.tile(np.array([1.0, 0.0, 0.0], dtype=np.float32), (5, 1))
    page = SINGLE.report(rows, outputs, LABELS).write("t", tmp_path).read_text(encoding="utf-8")
    assert page.endswith("## Surest errors\n\nNone.\n")
    assert "| AUROC, mean over the classes | – |" in page
    assert not (tmp_path / "roc.png").exists()
