"""The verb `plot`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich import get_console

from gpt2_lightning.app.commands.inspection.plot import find_runs
from gpt2_lightning.errors import UserError
from tests.inspection.metrics_of_runs import HEAD, USUAL, write_run
from tests.outcomes import refused

Run = Callable[..., Any]


@pytest.fixture
def three(workplace: Path) -> Path:
    """Three runs of one name, of which the last was cut off in a row."""
    for number, lr in enumerate((0.001, 0.003, 0.01)):
        cut = "50,0.5,5000,1.9" if number == 2 else ""
        write_run(
            workplace / "runs" / "char" / str(number), USUAL + cut, {"optimizer": {"lr": lr}}, end="" if cut else "\n"
        )
    return workplace / "runs"


def test_a_run_is_drawn_as_a_page_by_default(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = run_verb("plot", f"runs_dir={tiny_run.parent}")
    assert outcome.code == 0, outcome.err
    assert "drew curves.html" in outcome.out
    assert f"text-tiny/{tiny_run.name}" in outcome.out
    assert "</html>" in (workplace / "curves.html").read_text()


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
def test_three_runs_one_of_them_cut_off(run_verb: Run, three: Path, suffix: str, start: bytes) -> None:
    outcome = run_verb("plot", "runs=runs/char/*", f"output=picture.{suffix}", "x=time")
    assert outcome.code == 0, outcome.err
    assert Path(f"picture.{suffix}").read_bytes().startswith(start)
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["2", "3.2500", "40", "2.0000", "40", "4,000", "0:00:55", "0.01", "cut", "off"] in lines
    assert [line[7:] for line in lines if line and line[0] in "012"] == [["0.001"], ["0.003"], ["0.01", "cut", "off"]]


def test_lines_that_cannot_be_read_are_told(run_verb: Run, workplace: Path) -> None:
    write_run(workplace / "runs" / "damaged", USUAL + "50,0.5,5000,1.O,,,\n60,0.6\n70,0.7,7000,1.5,,,")
    outcome = run_verb("plot", "output=a.png")
    assert outcome.code == 0, outcome.err
    assert "2 lines unreadable" in outcome.out


def test_what_no_run_has_is_left_out_and_told(run_verb: Run, three: Path) -> None:
    outcome = run_verb("plot", "runs=char", "keys=[loss,gradient_norm]", "output=a.png")
    assert outcome.code == 0
    assert outcome.err == "no run has gradient_norm against step; it is omitted\n"


def test_keys_that_nothing_has_are_refused_with_those_there_are(run_verb: Run, three: Path) -> None:
    refused(run_verb("plot", "runs=char", "keys=[los]"), "keys: ", "los ", "throughput", "val/loss")


def test_a_run_without_figures_is_refused(run_verb: Run, workplace: Path) -> None:
    write_run(workplace / "runs" / "empty", "")
    refused(run_verb("plot"), "keys: ", "the runs have logged nothing yet")


def test_an_output_that_exists_is_kept_unless_told_otherwise(run_verb: Run, three: Path, workplace: Path) -> None:
    (workplace / "a.png").write_text("mine")
    refused(run_verb("plot", "runs=char", "output=a.png"), "output: a.png exists", "overwrite=true")
    assert (workplace / "a.png").read_text() == "mine"
    assert run_verb("plot", "runs=char", "output=a.png", "overwrite=true").code == 0
    assert (workplace / "a.png").read_bytes().startswith(b"\x89PNG")


def test_an_output_that_cannot_be_written_is_named(run_verb: Run, three: Path, workplace: Path) -> None:
    refused(run_verb("plot", "runs=char", "output=nowhere/a.png"), "output: ", "nowhere/a.png cannot be written")
    assert list(workplace.iterdir()) == [three]


def test_wrong_settings_are_named_together(run_verb: Run) -> None:
    outcome = run_verb("plot", "smoothing=1", "output=a.jpg", "keys=[]", "runs=")
    refused(outcome, "smoothing: 1", "output: a.jpg must end in .png, .svg, .pdf or .html", "keys: ", "runs: ")
    refused(run_verb("plot", "x=steps"), "x: 'steps' does not fit")


def test_runs_are_found_by_folder_name_pattern_and_file(three: Path, workplace: Path) -> None:
    first, second, third = (three / "char" / str(number) for number in range(3))
    everywhere = [first, second, third]
    for wanted in (str(three), str(three / "char"), "char", "ch*", "char/*", str(three / "*" / "*")):
        assert [run.resolve() for run in find_runs(wanted, three)] == everywhere, wanted
    assert find_runs("char/1", three) == [second]
    assert find_runs(str(second / "metrics.csv"), three) == [second]
    assert find_runs("char/[02]", three) == [first, third]
    assert find_runs("char/0, char/2", three) == [first, third]


def test_a_folder_with_a_comma_or_brackets_is_taken_to_the_letter(workplace: Path) -> None:
    folder = write_run(workplace / "runs" / "lr=1,wd=[2]", USUAL)
    assert find_runs("lr=1,wd=[2]", workplace / "runs") == [folder]


def test_the_latest_run_is_the_one_that_logged_last(three: Path) -> None:
    for number, age in enumerate((50, 10, 90)):
        os.utime(three / "char" / str(number) / "metrics.csv", (1e9 - age, 1e9 - age))
    assert find_runs("latest", three) == [three / "char" / "1"]


def test_what_leads_to_no_run_is_named(three: Path) -> None:
    with pytest.raises(UserError, match=r"runs: chat matches no folder with a metrics\.csv"):
        find_runs("char,chat", three)
    with pytest.raises(UserError, match="there is no run in"):
        find_runs("latest", three / "nothing")


def test_a_broken_run_among_others_is_drawn_around(run_verb: Run, three: Path) -> None:
    write_run(three / "char" / "broken", "", head="\x00\n")
    write_run(three / "char" / "diverged", "10,0,100,nan,nan,,", head=HEAD)
    outcome = run_verb("plot", "runs=char", "output=a.html")
    assert outcome.code == 0, outcome.err
    assert "no metrics" in outcome.out
    assert "train/loss is no number from step 10; val/loss is no number from step 10" in outcome.out


def test_a_page_of_this_verb_is_replaced_and_no_other(run_verb: Run, three: Path, workplace: Path) -> None:
    assert run_verb("plot", "runs=char").code == 0
    assert run_verb("plot", "runs=char").code == 0
    (workplace / "curves.html").write_text("<html>mine</html>")
    refused(run_verb("plot", "runs=char"), "output: curves.html exists", "overwrite=true")
    assert (workplace / "curves.html").read_text() == "<html>mine</html>"


def test_a_wide_table_fits_the_terminal_with_all_results(run_verb: Run, workplace: Path) -> None:
    for number in range(3):
        run = workplace / "runs" / ("a-long-name-of-a-run-" * 4) / f"2026-01-0{number}_00-00-00"
        write_run(run, USUAL, {f"setting_{key}": f"{'x' * 12}{number}" for key in range(40)})
    shown = run_verb("plot", "runs=runs/*/*").out
    assert max(map(len, shown.splitlines())) <= max(120, get_console().width)
    assert shown.count("3.2500") == 3
    assert all(f"2026-01-0{number}_00-00-00" in shown for number in range(3))
    assert "setting_39" in " ".join(shown.split())


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
@pytest.mark.parametrize("huge", ["1e308", "-1e308", "1e38", "-9e37"])
def test_huge_losses_are_drawn_or_named(run_verb: Run, workplace: Path, huge: str, suffix: str) -> None:
    rows = (
        f"10,0.1,1000,{huge},,0.001,100\n20,0.2,2000,3,2,0.001,1e-320\n30,0.3,1e308,-{huge.lstrip('-')},{huge},,1e308"
    )
    write_run(workplace / "runs" / "huge", rows)
    outcome = run_verb("plot", f"output=a.{suffix}")
    assert outcome.code == 0, outcome.err
    assert ("train/loss is no number from step 10" in " ".join(outcome.out.split())) == ("308" in huge)
    assert max(map(len, outcome.out.splitlines())) <= max(120, get_console().width)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "html"])
def test_a_file_of_this_verb_is_replaced_without_asking(run_verb: Run, three: Path, suffix: str) -> None:
    for _ in range(2):
        assert run_verb("plot", "runs=char", f"output=a.{suffix}").code == 0


def test_settings_of_earlier_versions_are_compared_with_their_defaults(run_verb: Run, workplace: Path) -> None:
    adamw = "gpt2_lightning.training.optimizers.AdamW"
    old = {"_target_": "gpt2_lightning.data.text.TextCorpus"}
    new = {"_target_": "gpt2_lightning.data.corpora.text.TextCorpus", "val_fraction": 0.1}
    write_run(workplace / "runs" / "a", USUAL, {"data": old, "optimizer": {"_target_": adamw}})
    write_run(workplace / "runs" / "b", USUAL, {"data": new, "optimizer": {"_target_": adamw, "weight_decay": 0.3}})
    shown = run_verb("plot", "runs=runs", "output=a.html").out
    assert "weight_decay" in shown
    assert "val_fraction" not in shown
    assert "data" not in shown
