"""Explanations as pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gpt2_lightning.inspection.attribution.plots import draw_attribution
from tests.inspection.attributed import TEXTS, explained

BLUE, ORANGE, GREY = "#4ba3dc", "#f2994a", "#a3abb5"


def dots(path: Path, color: str, above: float = 1.0) -> int:
    """Dots of a color in the upper share of a picture."""
    pixels = imread(path)[..., :3]
    part = pixels[: int(len(pixels) * above)]
    return int((np.abs(part - np.array(to_rgb(color))).max(axis=-1) < 0.02).sum())


def test_the_strongest_token_of_each_method_has_the_full_color(tmp_path: Path) -> None:
    (text,) = explained(["a bold title"])
    draw_attribution(text, tmp_path / "one.png")
    assert imread(tmp_path / "one.png").shape[1] == 1300, "6.5 inches of 200 dots"
    legend = dots(tmp_path / "one.png", BLUE) - dots(tmp_path / "one.png", BLUE, above=0.4)
    assert legend > 1000
    assert dots(tmp_path / "one.png", BLUE, above=0.4) + dots(tmp_path / "one.png", ORANGE, above=0.4) > 300
    assert dots(tmp_path / "one.png", GREY) > 300


@pytest.mark.parametrize("text", [*TEXTS, "a b", "bold " * 8])
def test_any_text_is_drawn_without_a_warning(text: str, tmp_path: Path) -> None:
    draw_attribution(explained([text])[0], tmp_path / "any.png")
    assert (tmp_path / "any.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_longer_text_makes_a_taller_picture(tmp_path: Path) -> None:
    (text,) = explained(["a bold"])
    heights = []
    for times in (1, 60):
        longer = dataclasses.replace(text, tokens=[token * times for token in text.tokens])
        draw_attribution(longer, tmp_path / "text.png")
        heights.append(imread(tmp_path / "text.png").shape[0])
    assert heights[1] > heights[0] + 200
