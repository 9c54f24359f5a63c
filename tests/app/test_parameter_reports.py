"""The table of parameters at the widths of terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gpt2_lightning.app.reports.parameters import print_summary, print_table
from gpt2_lightning.inspection.parameters.tensors import TensorSummary, compare, meta_model, summarize_tensors
from gpt2_lightning.model import GPT2, GPT2Config
from tests.huggingface.networks import lively


def printed(figures: list[TensorSummary], width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    print_table(figures, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def model() -> GPT2:
    return lively(GPT2Config(vocab_size=23003, block_size=1013, n_layer=2, n_head=5, n_embd=35))


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("compares", [False, True])
def test_no_figure_is_cut_at_any_width(width: int, compares: bool) -> None:
    network = model()
    figures = summarize_tensors(network)
    if compares:
        figures, _ = compare(figures, network, model())
    text = printed(figures, width)
    assert "…" not in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    total = sum(one.count for one in figures)
    for one in figures:
        (line,) = [line for line in lines if line.split()[:1] == [one.name]]
        assert " × ".join(f"{size:,}" for size in one.shape) in line
        assert f"{one.count:,}" in line.split()
        assert f"{one.count / total:.2%}" in line.split()


def test_a_narrow_terminal_is_told_what_it_does_not_show() -> None:
    figures = summarize_tensors(model())
    narrow, wide = " ".join(printed(figures, 80).split()), printed(figures, 160)
    assert "left out: type, mean, std; a terminal of" in narrow
    assert "view=csv" in narrow
    assert "left out" not in wide
    assert all(title in wide.split() for title in ("type", "mean", "std", "norm", "kind"))
    needed = int(narrow.partition("a terminal of ")[2].split()[0])
    assert "left out" not in printed(figures, needed)
    assert "left out: type;" in " ".join(printed(figures, needed - 1).split())


def test_what_fits_no_terminal_is_still_whole() -> None:
    figures = summarize_tensors(model())
    text = printed(figures, 30)
    assert "…" not in text
    assert "23,003 × 35" in text


def test_a_small_cache_is_told_in_kilobytes() -> None:
    console = Console(width=160, file=io.StringIO())
    network = meta_model(GPT2Config(vocab_size=23, block_size=13, n_layer=2, n_head=5, n_embd=35))
    print_summary(summarize_tensors(network), network, console)
    assert isinstance(console.file, io.StringIO)
    assert "560 bytes a token in float32 (7.3 kB for the whole context)" in console.file.getvalue()
