"""Tests of `python -m benchmarks.records` with runs that are planted."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import records, results

ROWS = {"one": ["a=1"], "two": ["a=2"]}


class Runs:
    """Stands for the processes; the run after `until` is interrupted."""

    def __init__(self, until: int | None = None) -> None:
        self.until = until
        self.started: list[str] = []

    def train(self, text: Path, settings: Sequence[str]) -> tuple[float, float]:
        if len(self.started) == self.until:
            raise KeyboardInterrupt
        self.started.append(" ".join(settings))
        return 1.8 + len(self.started) / 100, 20.0


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Runs], dict[str, Any]]:
    """Call the benchmark with planted runs, and return the figures that it saved."""
    text = tmp_path / "input.txt"
    text.write_text("text")
    monkeypatch.setattr(sys, "argv", ["records", str(text)])
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(records, "rows", lambda: ROWS)

    def call(runs: Runs) -> dict[str, Any]:
        monkeypatch.setattr(records, "_train", runs.train)
        with contextlib.suppress(KeyboardInterrupt):
            records.main()
        figures: dict[str, Any] = json.loads((tmp_path / "records.json").read_text())["figures"]
        return figures

    return call


def test_an_interrupted_ladder_continues_with_the_next_run(measure: Callable[[Runs], dict[str, Any]]) -> None:
    first, second, third = Runs(until=3), Runs(), Runs()
    measure(first)
    assert first.started == [f"a={a} seed={seed} trainer.threads=1" for seed, a in ((1, 1), (1, 2), (2, 1))]
    figures = measure(second)
    assert not {*first.started} & {*second.started}
    assert len(first.started) + len(second.started) == 10
    assert measure(third) == figures
    assert third.started == []
    assert figures["ladder"]["one"]["losses"]["1"] == 1.81


def test_a_row_with_other_settings_is_measured_anew(
    measure: Callable[[Runs], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(Runs())
    monkeypatch.setattr(records, "rows", lambda: {"one": ["a=1"], "two": ["a=3"]})
    again = Runs()
    measure(again)
    assert [settings.partition(" ")[0] for settings in again.started] == ["a=3"] * 5


def test_the_interval_is_students() -> None:
    assert records._estimate([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, pytest.approx(2.776 * 2.5**0.5 / 5**0.5, abs=1e-4))
    assert records._estimate([1.5]) == (1.5, 0.0)


def test_each_row_of_the_ladder_has_one_change() -> None:
    found = records.rows()
    steps = list(records._LADDER)
    for before, after in itertools.pairwise(steps):
        changed = {*found[after]} - {*found[before]}
        assert len(changed) == 1, after
    assert all(len({each.partition("=")[0] for each in row}) == len(row) for row in found.values())


def test_whole_processes_alternate_with_nanogpts(
    measure: Callable[[Runs], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "nanogpt" / "data" / "shakespeare_char"
    folder.mkdir(parents=True)
    (folder / "prepare.py").write_text("open('train.bin', 'w').write(open('input.txt').read())")
    (folder.parents[1] / "train.py").write_text(
        "print('step 0: train loss 4.2, val loss 4.2')\nprint('step 2000: train loss 1.7, val loss 1.88')\n"
        "assert open('data/shakespeare_char/train.bin').read() == 'text'"
    )
    monkeypatch.setenv("NANOGPT", str(tmp_path / "nanogpt"))
    figures = measure(Runs(until=2))
    assert [*figures["side by side"]] == ["1", "2"]
    assert figures["side by side"]["1"]["nanoGPT's loss"] == 1.88
    assert figures["highest loss"] == 1.82
    assert figures["seconds over nanoGPT's, median"] > 1, "planted: 20 s against a moment"
    assert not (folder / "train.bin").exists(), "nanoGPT's folder is left as it is"
