"""Probabilities as colors and as numbers."""

from __future__ import annotations

import itertools
import math

import pytest
from rich.color import Color, ColorSystem
from rich.console import Console

from gpt2_lightning.app.generation.token_colors import (
    BOUNDS,
    colored,
    has_colors,
    legend,
    style_of,
    styles,
    summary,
    token_lines,
)
from gpt2_lightning.generation import Token
from gpt2_lightning.tokenizers import CharTokenizer


def luminance(color: Color | None) -> float:
    """By WCAG 2's definition."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color.triplet)
    ]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_likelier_is_lighter_so_that_no_hue_need_be_told() -> None:
    lightness = [luminance(style.bgcolor) for style in styles()]
    assert all(after > 1.4 * before for before, after in itertools.pairwise(lightness)), lightness


def test_letters_are_read_on_every_color() -> None:
    for style in styles():
        darker, lighter = sorted((luminance(style.color), luminance(style.bgcolor)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_legend_names_the_color_of_each_probability() -> None:
    inside = [low * 0.5 + high * 0.5 for low, high in itertools.pairwise((0, *BOUNDS, 1))]
    chosen = [style_of(math.log(probability)) for probability in inside]
    assert [span.style for span in legend().spans] == chosen == list(styles())
    assert " 5-20 % " in legend().plain
    assert style_of(math.log(0.2)) == style_of(math.log(0.3))
    assert style_of(0.0) == styles()[-1]


@pytest.mark.parametrize(("system", "seen"), [("256", True), ("truecolor", True), ("standard", False), (None, False)])
def test_each_class_has_a_color_of_its_own_where_colors_are_used(system: str | None, seen: bool) -> None:
    assert has_colors(Console(color_system=system)) == seen
    if seen:
        kind = {"256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}[system]
        assert len({style.bgcolor.downgrade(kind) for style in styles()}) == len(styles())


def test_a_line_feed_is_seen_and_ends_the_color() -> None:
    drawn = colored("a\n\nb", math.log(0.3))
    assert drawn.plain == "a↵\n↵\nb"
    assert {drawn.plain[i] for span in drawn.spans for i in range(span.start, span.end)} == {"a", "↵", "b"}


def test_tokens_are_listed_with_those_in_their_place() -> None:
    tokenizer = CharTokenizer("ab \n日")
    space, line, wide = (int(tokenizer.encode(c)[0]) for c in (" ", "\n", "日"))
    tokens = [
        Token(0, space, None, math.log(0.25), ((wide, math.log(0.5)), (space, math.log(0.25)))),
        Token(0, wide, "length", math.log(0.125), ((line, math.log(0.75)), (space, math.log(0.00002)))),
    ]
    assert [text.plain for text in token_lines(tokens, tokenizer)] == [
        "p      token  likeliest",
        "0.250  ·      0.500 日     0.250 ·",
        "0.125  日     0.750 ↵      2e-05 ·",
    ]


def test_a_text_is_summed_up() -> None:
    tokens = [Token(0, 1, None, math.log(p)) for p in (0.5, 0.125)]
    assert summary(tokens) == f"2 tokens, log-probability {math.log(0.25):.3f} a token, perplexity 4.00"
