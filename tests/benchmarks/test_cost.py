"""The benchmark of how cost grows: what theory predicts, and plots of given figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost import plot
from benchmarks.cost.points import DECODED, LENGTHS, SERIES, STEPS, Step, bytes_read, scaled, steps_of, theory
from gpt2_lightning.model import GPT2, GPT2Config


@pytest.mark.parametrize("series", STEPS)
def test_the_work_of_a_step_is_what_torch_counts(series: str) -> None:
    """On the meta device, where nothing is computed; the explicit kernel's attention is counted in full."""
    step = steps_of(series)[1]
    with torch.device("meta"):
        model = GPT2(step.config)
        ids = torch.zeros(step.batch, step.context, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model.lm_head(model.features(ids)).sum().backward()
    assert step.work == pytest.approx(counter.get_total_flops(), rel=0.12), "but for attention's recomputation"


def test_a_series_changes_one_size() -> None:
    assert [step.width for step in steps_of("width")] == list(STEPS["width"])
    assert {(step.context, step.depth, step.batch, step.vocabulary) for step in steps_of("width")} == {
        (256, 4, 4, 4096)
    }
    assert Step(width=512).config.head_size == 64


def test_generation_reads_all_weights_and_the_cache_of_the_tokens_before() -> None:
    config = GPT2Config(vocab_size=10, block_size=8, n_layer=2, n_head=1, n_embd=4)
    n_weights = sum(parameter.numel() for parameter in GPT2(config).parameters())
    per_position = 2 * 2 * 4  # keys and values, layers, channels
    assert bytes_read(3, config) == 4 * (3 * n_weights + per_position * (0 + 1 + 2))
    assert theory("generation") == [bytes_read(length, DECODED) for length in LENGTHS]


def test_the_line_passes_through_the_point_of_the_highest_rate_and_below_all_others() -> None:
    work, seconds = [1.0, 4.0, 8.0], [1.0, 2.0, 8.0]
    assert scaled(work, seconds) == [0.5, 2.0, 4.0]


def test_plots_show_every_series(tmp_path: Path) -> None:
    figures = {
        name: [{"value": v, "seconds": 0.01 * v, "bytes": 1e6 * v, "expected_bytes": 9e5 * v} for v in values]
        for name, values in SERIES.items()
    }
    files = plot.draw(figures, tmp_path)
    assert [file.name for file in files] == ["cost-training.svg", "cost-inference.svg"]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for label in ("context, tokens", "vocabulary", "generated tokens", "corpus, MB", "64k", "theory", "measured"):
        assert re.search(rf">\s*{re.escape(label)}\s*<", text), label
    again = [file.read_bytes() for file in plot.draw(figures, tmp_path)]
    assert again == [file.read_bytes() for file in files], "a repeated plot is the same file"


def test_a_part_without_figures_is_not_plotted(tmp_path: Path) -> None:
    assert plot.draw({}, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
