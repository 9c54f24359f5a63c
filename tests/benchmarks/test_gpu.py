"""Tests of `python -m benchmarks.gpu`: its parts with tiny models on a CPU, and what becomes of parts that fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import process, report, variants
from benchmarks.gpu.parts import PARTS, chosen
from benchmarks.gpu.rows import Row
from benchmarks.gpu.scale import SCALES

ROOT = Path(__file__).parents[2]
PLANTED = """
import os, signal, sys, time, types

def good(scale):
    yield {"milliseconds": 2.0}

def raises(scale):
    yield {"name": "first case", "milliseconds": 1.0}
    raise ValueError("no memory\\nin two lines")

def dies(scale):
    os.kill(os.getpid(), signal.SIGKILL)
    yield {}

def hangs(scale):
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
    time.sleep(600)
    yield {}

parts = {name: types.SimpleNamespace(measure=measure) for name, measure in %s.items()}
sys.modules["benchmarks.gpu.parts"] = types.SimpleNamespace(PARTS=parts)
sys.modules["benchmarks.gpu.scale"] = types.SimpleNamespace(SCALES={"cpu": None})
from benchmarks.gpu.process import main
main()
"""
"""A program in place of `benchmarks.gpu.process`, whose parts fail."""
NOT_HERE = {
    "precision/tf32": "needs a GPU",
    "attention/cudnn": "needs a GPU",
    **{name: "starts a program" for name in PARTS if name.startswith("program/")},
}
NAMES = {"train/124m": "raises", "ranks/fsdp": "dies", "ranks/ddp": "hangs", "muon/step": "good"}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the measurements of some parts."""
    parts = "{" + ", ".join(f'"{name}": {function}' for name, function in NAMES.items()) + "}"
    (tmp_path / "planted.py").write_text(PLANTED % parts)
    monkeypatch.setattr(process, "PROGRAM", (str(tmp_path / "planted.py"),))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(command, "_LEAST_SECONDS", 0)


@pytest.mark.slow
def test_parts_that_fail_are_rows_and_the_rest_is_measured(
    planted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_MOST_SECONDS", 5)
    rows = command.measure(list(NAMES), "cpu", 600, tmp_path / "results")
    assert rows == [
        {"name": "train/124m: first case", "milliseconds": 1.0},
        {"name": "train/124m", "error": "ValueError: no memory"},
        {"name": "ranks/fsdp", "error": "ended with exit code -9"},
        {"name": "ranks/ddp", "error": "not finished after 5 s"},
        {"name": "muon/step", "milliseconds": 2.0},
    ]
    saved = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert saved["figures"]["ranks/fsdp"] == {"error": "ended with exit code -9"}
    lines = (tmp_path / "results" / "gpu.md").read_text().splitlines()
    assert lines[-2] == "| `ranks/ddp` | ddp, one rank |  |  |  |  |  |  |  | not finished after 5 s |"
    assert "ValueError: no memory\nin two lines" in (tmp_path / "results" / "gpu.log").read_text()


def test_results_are_saved_after_every_part(planted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[list[str]] = []
    monkeypatch.setattr(report, "save", lambda rows, _: saved.append([row["name"] for row in rows]))
    command.measure(["muon/step", "muon/step"], "cpu", 600, tmp_path)
    assert saved[:2] == [["muon/step"], ["muon/step"] * 2]


def test_parts_without_time_are_rows(planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_LEAST_SECONDS", 15)
    rows = command.measure(["muon/step", "train/124m"], "cpu", 10, None)
    assert rows == [
        {"name": "muon/step", "error": "not measured: the 10 s are over"},
        {"name": "train/124m", "error": "not measured: the 10 s are over"},
    ]


def test_a_part_without_its_launcher_measures_nothing(planted: None, tmp_path: Path) -> None:
    program = [sys.executable, *process.PROGRAM, "train/124m", "cpu", str(tmp_path)]
    done = subprocess.run(program, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "rows.jsonl").exists()


def test_parts_are_chosen_by_name_and_group_in_their_order() -> None:
    assert chosen([]) == list(PARTS)
    assert chosen(["ranks", "train/124m"]) == ["train/124m", *(name for name in PARTS if name.startswith("ranks/"))]
    with pytest.raises(SystemExit, match="there is no part rank, trains"):
        chosen(["rank", "trains", "ranks"])


def test_references_of_parts_exist() -> None:
    assert {part.reference for part in PARTS.values()} <= {*PARTS, None}


def test_the_page_on_performance_names_parts_and_tests_that_exist() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    names = re.findall(r"`([a-z]+/[\w.-]+)`", page)
    tests = {name for name in names if name.endswith(".py")}
    assert len(tests) > 10
    assert all((ROOT / "tests" / name).exists() for name in tests)
    assert {*names} - tests - {*PARTS} == set()


@pytest.mark.parametrize("name", variants.NAMES)
def test_variants_replace_what_exists(name: str) -> None:
    with variants.applied(name):
        pass


def test_the_table_has_speeds_relative_to_the_reference() -> None:
    rows: list[Row] = [
        {"name": "train/124m", "tokens_per_second": 2000.0, "milliseconds": 8.0, "mfu": 0.4567},
        {"name": "without/padding", "tokens_per_second": 1500.0, "spread": 0.05, "first_seconds": 12.34},
        {"name": "muon/adamw-step", "milliseconds": 2.0},
        {"name": "muon/step", "milliseconds": 8.0, "remark": "a | b"},
        {"name": "decoding/eager: batch 8", "milliseconds": 3.0},
        {"name": "decoding/captured: batch 8", "milliseconds": 1.0, "peak_gb": 0.25},
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.table(rows).splitlines()[2:]]
    assert lines == [
        ["`train/124m`", PARTS["train/124m"].title, "2,000", "45.7%", "8.00", "", "", "", "", ""],
        [
            "`without/padding`",
            PARTS["without/padding"].title,
            "1,500",
            "",
            "",
            "2.5%",
            "12.3",
            "",
            "`train/124m` 0.75",
            "",
        ],
        ["`muon/adamw-step`", PARTS["muon/adamw-step"].title, "", "", "2.00", "", "", "", "", ""],
        ["`muon/step`", PARTS["muon/step"].title, "", "", "8.00", "", "", "", "`muon/adamw-step` 0.25", "a / b"],
        ["`decoding/eager`", f"{PARTS['decoding/eager'].title}, batch 8", "", "", "3.00", "", "", "", "", ""],
        [
            *("`decoding/captured`", f"{PARTS['decoding/captured'].title}, batch 8"),
            *("", "", "1.00", "", "", "0.2", "`decoding/eager` 3.00", ""),
        ],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs an NVIDIA GPU"),
        (["budgets=3"], "unknown arguments"),
        (["device=tpu"], "unknown arguments"),
        (["trains"], "there is no part trains"),
    ],
)
def test_wrong_commands_end_with_a_message(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", *arguments])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=message):
        command.main()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PARTS if name not in NOT_HERE])
def test_every_part_measures_tiny_models_on_a_cpu(name: str) -> None:
    with torch.compiler.set_stance("force_eager"):  # the compiler has tests of its own
        rows = list(PARTS[name].measure(SCALES["cpu"]))
    assert rows
    for row in rows:
        assert row.get("milliseconds", 1) > 0
        assert row.get("tokens_per_second", 1) > 0
        assert not {"error"} & {*row}
