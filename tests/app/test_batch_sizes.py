"""How a batch is stated, and how it is divided."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.app.tiny_runs import TINY

Run = Callable[..., Any]
MODEL = ["model=tiny", "trainer=cpu", "callbacks.samples=null", "trainer.max_steps=2"]
"""Contexts of 32 tokens."""


@pytest.fixture
def text(small_text: Path) -> list[str]:
    return ["data=text", f"data.path={small_text}"]


def losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row["val/loss"] for row in csv.DictReader(file)]


def config_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


def test_tokens_are_another_way_to_say_the_size(run_verb: Run, text: list[str], workplace: Path) -> None:
    said = {"tokens": "batch_tokens=192", "samples": "batch_size=6"}
    for name, size in said.items():
        outcome = run_verb("train", *MODEL, *text, size, f"run_dir={name}")
        assert outcome.code == 0, outcome
        assert "2 steps of 6 sequences of 32 tokens" in outcome.out
    assert losses(workplace / "tokens") == losses(workplace / "samples")
    assert config_of(workplace / "tokens")["batch_size"] == 6
    assert config_of(workplace / "tokens")["batch_tokens"] is None


def test_sixteen_samples_are_the_default(run_verb: Run, text: list[str], workplace: Path) -> None:
    assert "2 steps of 16 sequences" in run_verb("train", *MODEL, *text, "run_dir=here").out
    assert config_of(workplace / "here")["batch_size"] == 16


def test_what_each_device_does_is_said(run_verb: Run, text: list[str]) -> None:
    outcome = run_verb("train", *MODEL, *text, "batch_tokens=384", "micro_batch_size=3")
    assert "2 steps of 12 sequences of 32 tokens in 4 parts of 3: 768 tokens" in outcome.out


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is found in /proc")
def test_the_largest_that_fits_is_found_and_trains_the_same(run_verb: Run, text: list[str], workplace: Path) -> None:
    whole = run_verb("train", *MODEL, *text, "batch_size=12", "micro_batch_size=12", "run_dir=whole")
    assert whole.code == 0, whole
    tried = run_verb("train", *MODEL, *text, "batch_size=12", "micro_batch_size=auto", "run_dir=tried")
    assert "micro-batches of 12 are the largest that fit, of a share of 12" in tried.out
    assert losses(workplace / "tried") == losses(workplace / "whole"), "nothing is left of the steps that were tried"
    assert config_of(workplace / "tried")["micro_batch_size"] == 12


def test_nothing_is_left_where_not_even_one_fits(
    run_verb: Run, text: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2_lightning.memory.usable", lambda *_: 1_000_000)
    outcome = run_verb("train", *MODEL, *text, "micro_batch_size=auto")
    assert outcome.code == 2
    assert "micro_batch_size=auto: there is not enough memory for a single sample" in outcome.err
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["batch_tokens=100"], "batch_tokens: 100 are no whole number of samples of 32 tokens (model.block_size); the "
                               "nearest that are: 96 (3 × 32) and 128 (4 × 32)"),
        (["batch_tokens=7"], "the nearest that are: 32 (1 × 32)"),
        (["batch_tokens=0"], "batch_tokens: 0 is out of range, 1 up to"),
        (["batch_size=-2"], "batch_size: -2 is out of range, 1 up to"),
        (["batch_size=4", "batch_tokens=128"], "batch_size=4 and batch_tokens=128 exclude each other; set one of them"),
        (["batch_tokens=1.5"], "batch_tokens: 1.5 does not fit"),
        (["batch_tokens=192", "micro_batch_size=4"], "micro_batch_size: 4 does not divide batch_size=6; the nearest "
                                                     "that do: 2 and 3"),
        (["batch_tokens=192", "micro_batch_size=0"], "micro_batch_size: 0 is out of range, 1 or more is allowed"),
        (["batch_size=12", "micro_batch_size=5"], "micro_batch_size: 5 does not divide batch_size=12; the nearest "
                                                  "that do are 4 and 6"),
        (["micro_batch_size=17"], "micro_batch_size: 17 is out of range, 1 to 16 is allowed"),
        (["micro_batch_size=all"], "micro_batch_size: 'all' does not fit; it must be a valid integer or 'auto'"),
        (["plan=perhaps"], "plan: 'perhaps' does not fit; it must be a valid boolean or 'probe'"),
        (["price=0"], "price: 0 is out of range, a finite number above 0"),
        (["price=cheap"], "price: 'cheap' does not fit; it must be a valid number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_numbers(
    run_verb: Run, text: list[str], workplace: Path, settings: list[str], expected: str
) -> None:
    outcome = run_verb("train", "model=tiny", "trainer=cpu", *text, *settings)
    assert outcome.code == 2
    assert expected in outcome.err
    assert not (workplace / "runs").exists()


def test_tokens_are_shared_out_among_processes(run_verb: Run, workplace: Path, text: list[str]) -> None:
    """A plan tells it without starting them."""
    settings = ["model=tiny", "trainer=ddp_cpu", "trainer.devices=3", *text]
    outcome = run_verb("train", *settings, "batch_tokens=128", "plan=true")
    assert outcome.code == 2
    expected = "batch_size: 4 does not divide among 3 processes, one for each device; the nearest that do: 3 and 6"
    assert expected in outcome.err


def test_speed_and_memory_are_in_the_summary(run_verb: Run, text: list[str]) -> None:
    outcome = run_verb("train", *TINY, *text, "trainer.max_steps=2")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("  speed ")]
    assert "tokens/s, MFU unknown: no peak is listed for CPU" in line
    assert "peak memory" in outcome.out
