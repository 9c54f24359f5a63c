"""Files of an evaluation: results.json, results.md and results.png, and the published values beside them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.intervals import perplexity, share
from gpt2_lightning.evaluation.results.markdown import results_page
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.results.plot import draw_results
from gpt2_lightning.evaluation.results.published import SIZES, published
from gpt2_lightning.evaluation.results.results_file import EvaluatedModel, Results, add_results, read_results
from gpt2_lightning.evaluation.results.table import format_number, rows

MODEL = EvaluatedModel("runs/a|b/checkpoints/best.ckpt", 500, "ab" * 32, 1_234_567, "cd" * 32, 256)
ACC = share("acc", [True] * 3 + [False] * 7)
LAMBADA = BenchmarkResult(
    "lambada",
    (perplexity("perplexity", [-3.0, -4, -5]), ACC),
    n_items=3,
    source="lambada/x.jsonl",
    digest="ef" * 32,
    settings={"limit": None},
    notes=("Other rows than the published ones.",),
    n_cut=2,
)
CHOICES = dataclasses.replace(LAMBADA, name="choices", metrics=(ACC,), notes=())


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    written = add_results(file, MODEL, {"lambada": LAMBADA, "choices": CHOICES})
    assert read_results(file) == written
    assert list(written.benchmarks) == ["lambada", "choices"]
    plain = json.loads(file.read_text(encoding="utf-8"))
    assert plain["benchmarks"]["lambada"]["metrics"]["acc"]["value"] == 0.3
    assert plain["benchmarks"]["lambada"]["cut"] == 2
    assert plain["model"]["weights"] == "ab" * 32


def test_a_second_evaluation_adds_and_replaces(tmp_path: Path) -> None:
    one, both = tmp_path / "one.json", tmp_path / "both.json"
    add_results(one, MODEL, {"lambada": LAMBADA, "choices": CHOICES})
    add_results(both, MODEL, {"lambada": dataclasses.replace(LAMBADA, n_items=7)})
    add_results(both, MODEL, {"choices": CHOICES})
    add_results(both, MODEL, {"lambada": LAMBADA})
    assert both.read_bytes() == one.read_bytes()


def test_results_of_other_weights_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    add_results(file, MODEL, {"lambada": LAMBADA})
    later = add_results(file, dataclasses.replace(MODEL, weights="99" * 32), {"choices": CHOICES})
    assert list(later.benchmarks) == ["choices"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a file of results"),
        ("[]", "is not a file of results"),
        ('{"format": 1, "model": {}, "benchmarks": {}}', "is not a file of results"),
        ('{"format": 2}', "has format 2, this version reads up to 1"),
    ],
)
def test_other_files_are_refused_and_kept(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        add_results(file, MODEL, {"lambada": LAMBADA})
    assert file.read_text() == content
    assert list(tmp_path.iterdir()) == [file]


JOINED = {"split": "test", "detokenize": False, "documents": "joined", "stride": None}


@pytest.mark.parametrize(
    ("benchmark", "metric", "values"),
    [
        ("lambada_paper", "perplexity", [35.13, 15.60, 10.87, 8.63]),
        ("lambada_paper", "acc", [45.99, 55.48, 60.12, 63.24]),
        ("wikitext2", "perplexity", [29.41, 22.76, 19.93, 18.34]),
        ("wikitext103", "word_perplexity", [37.50, 26.37, 22.05, 17.48]),
        ("hellaswag", "acc", [28.92, None, None, 40.04]),
        ("hellaswag", "acc_norm", [31.14, None, None, 50.89]),
    ],
)
def test_published_values(benchmark: str, metric: str, values: list[float | None]) -> None:
    settings = JOINED if metric == "perplexity" else {"split": "test", "detokenize": True}
    known = published(dataclasses.replace(LAMBADA, name=benchmark, settings=settings), metric)
    assert known is not None
    assert [known.values.get(size) for size in ("124M", "355M", "774M", "1.5B")] == values


def test_readme_has_the_published_values(root: Path) -> None:
    table = (root / "gpt2_lightning" / "evaluation" / "results" / "published.csv").read_text(encoding="utf-8")
    rows_of_readme = [
        [cell.strip() for cell in line.split("|")[2:6]]
        for line in (root / "README.md").read_text(encoding="utf-8").splitlines()
    ]
    for row in csv.DictReader(table.splitlines()):
        assert [row[size] for size in SIZES] in rows_of_readme


def test_only_the_same_definition_is_beside_the_published_values() -> None:
    assert published(LAMBADA, "word_perplexity") is None
    assert published(dataclasses.replace(LAMBADA, settings={"path": "mine.jsonl"}), "acc") is None
    assert published(dataclasses.replace(LAMBADA, name="wikitext2", settings=JOINED), "word_perplexity") is None
    main, accuracy, own = rows([LAMBADA, CHOICES])
    assert main.openai == ("40.06", "", "", "10.63")
    assert accuracy.openai == ("32.56 %", "", "", "51.21 %")
    assert own.openai == ("",) * 4
    assert (main.is_main, accuracy.is_main) == (True, False)
    assert (accuracy.value, accuracy.interval) == ("30.00 %", "10.78 to 60.32 %")


def test_page_has_a_table_notes_and_the_plot() -> None:
    page = results_page(Results(MODEL, {"lambada": LAMBADA, "choices": CHOICES}))
    lines = page.splitlines()
    assert lines[0] == r"# Results of runs/a\|b/checkpoints/best.ckpt"
    assert "1,234,567 parameters, context of 256 tokens, step 500." in page
    assert "| benchmark | metric | value | 95 % interval | GPT-2 124M | GPT-2 1.5B |" in lines
    assert "| choices | acc ↑ | 30.00 % | 10.78 to 60.32 % |  |  |" in lines
    assert "- lambada: 3 items, 2 of them longer than the context and cut; lambada/x.jsonl" in lines
    assert "- lambada: Other rows than the published ones." in lines
    assert "![Results with 95 % intervals](results.png)" in lines


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.98765, "0.9877"),
        (-3.2, "-3.2000"),
        (29.414, "29.41"),
        (1234.5, "1,234.50"),
        (54321.9, "54,322"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_have_digits_by_their_size(value: float, shown: str) -> None:
    assert format_number(value) == shown


def test_plot_shows_intervals_and_published_values(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    original = Figure.savefig

    def keep(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(figure)
        original(figure, *arguments, **options)  # type: ignore[arg-type]  # of matplotlib's overloads

    bare = BenchmarkResult("bare", (Metric("loss", 2.5, higher_is_better=False),), 1, "$x$", "", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        draw_results(Results(MODEL, {"lambada": LAMBADA, "choices": CHOICES, "bare": bare}), tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    first, second, third = drawn[0].axes
    assert [text.get_text() for text in first.texts] == ["124M", "1.5B"]
    assert [float(line.get_xdata()[0]) for line in first.lines[:2]] == [40.06, 10.63]  # type: ignore[index]  # arrays
    assert second.get_title(loc="left") == "choices, acc (higher is better): 30.00 % (10.78 to 60.32 %)"
    assert third.get_title(loc="left") == "bare, loss (lower is better): 2.5000"


def test_an_infinite_value_is_refused_before_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    broken = dataclasses.replace(LAMBADA, metrics=(Metric("loss", float("inf")),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_results(file, MODEL, {"lambada": broken})
    assert not file.exists()
