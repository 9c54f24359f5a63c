import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from gpt2_lightning.inspection.attention.plots import draw_head, draw_layer, draw_model, draw_text
from gpt2_lightning.inspection.colormaps import sequential


def some_weights(*shape: int) -> NDArray[np.float32]:
    weights = np.tril(np.random.default_rng(0).random(shape, dtype=np.float32))
    return weights / weights.sum(axis=-1, keepdims=True)


def share_of(picture: Path, color: NDArray[np.uint8]) -> float:
    """Share of the pixels that have a color, nearly."""
    pixels = imread(picture.with_suffix(".png"))[..., :3]
    return float((np.abs(pixels - color / 255).max(axis=-1) < 0.02).mean())


def is_drawn(picture: Path) -> bool:
    ElementTree.parse(picture.with_suffix(".svg"))
    return picture.with_suffix(".png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_head_that_looks_at_the_token_before_is_a_line_below_the_diagonal(tmp_path: Path) -> None:
    weights = np.eye(10, k=-1, dtype=np.float32)
    weights[0, 0] = 1
    draw_head(weights, [f"·t{i}" for i in range(10)], "a head", tmp_path / "head")
    assert is_drawn(tmp_path / "head")
    pixels = imread(tmp_path / "head.png")[..., :3]
    width = pixels.shape[1]
    assert width == 1300, "6.5 inches of 200 dots"
    dark = np.abs(pixels[:, : width * 4 // 5] - sequential(False)[-1] / 255).max(axis=-1) < 0.02
    rows, columns = np.nonzero(dark)
    assert np.corrcoef(rows, columns)[0, 1] > 0.98
    cell = (rows.max() - rows.min() + 1) / 10
    assert len(rows) == pytest.approx(10 * cell**2, rel=0.1)


def test_colors_are_the_square_root_of_weights(tmp_path: Path) -> None:
    draw_head(np.array([[1, 0], [0.25, 0.75]], dtype=np.float32), ["a", "b"], "a head", tmp_path / "head")
    assert share_of(tmp_path / "head", sequential(False)[128]) > 0.05


@pytest.mark.parametrize("tokens", [1, 64, 130])
def test_any_number_of_tokens_is_drawn(tokens: int, tmp_path: Path) -> None:
    weights = some_weights(tokens, tokens)
    draw_head(weights, ["·token"] * tokens, "a head", tmp_path / "head")
    draw_text(weights[-1], tokens - 1, ["·token"] * tokens, "a text", tmp_path / "text")
    assert is_drawn(tmp_path / "head")
    assert is_drawn(tmp_path / "text")


def test_a_text_is_drawn_as_wide_as_it_is(tmp_path: Path) -> None:
    widths = []
    for tokens in (2, 10, 40):
        draw_text(some_weights(tokens, tokens)[-1], tokens - 1, ["·token"] * tokens, "a text", tmp_path / "text")
        widths.append(imread(tmp_path / "text.png").shape[1])
    assert widths == [int(1300 * 48 / 88), int(1300 * 60 / 88), int(1300 * 84 / 88)]


def test_tokens_that_the_font_lacks_or_that_look_like_formulas_are_drawn(tmp_path: Path) -> None:
    labels = ["中", "$x^2$", "$\\frac$", "<script>", "&amp;", "↵", "_", "\\n", "🙂"]
    weights = some_weights(9, 9)
    draw_head(weights, labels, "$ and $", tmp_path / "head")
    draw_text(weights[4], 4, labels, "$ and $", tmp_path / "text")
    assert is_drawn(tmp_path / "head")
    assert is_drawn(tmp_path / "text")


def test_a_token_longer_than_a_line_is_cut(tmp_path: Path) -> None:
    draw_text(some_weights(2, 2)[1], 1, ["a" * 300, "b"], "a text", tmp_path / "text")
    assert is_drawn(tmp_path / "text")


def test_what_comes_after_the_token_is_not_colored(tmp_path: Path) -> None:
    row = np.array([1.0, 0.0, 0.0], dtype=np.float32)
    draw_text(row, 1, ["aaaaaaaa", "b", "cccccccc"], "a text", tmp_path / "text")
    assert share_of(tmp_path / "text", sequential(False)[-1]) > 0.005


@pytest.mark.parametrize("heads", [1, 5, 12])
def test_a_layer_and_a_model_show_every_head(heads: int, tmp_path: Path) -> None:
    weights = some_weights(3, heads, 7, 7)
    draw_layer(weights[1], "a layer", tmp_path / "layer")
    draw_model(weights, "a model", tmp_path / "model")
    assert is_drawn(tmp_path / "layer")
    assert is_drawn(tmp_path / "model")


def test_thumbnails_lie_by_layer_and_head(tmp_path: Path) -> None:
    """One head of all has weights, on its first token."""
    weights = np.zeros((2, 3, 11, 11), dtype=np.float32)
    weights[1, 2, :, 0] = 1
    draw_model(weights, "", tmp_path / "model", suffixes=(".png",))
    assert not (tmp_path / "model.svg").exists()
    pixels = imread(tmp_path / "model.png")[..., :3]
    height, width = pixels.shape[:2]
    dark = np.abs(pixels[:, : width * 17 // 20] - sequential(False)[-1] / 255).max(axis=-1) < 0.02
    rows, columns = np.nonzero(dark)
    assert rows.min() > height / 2, "the lower layer"
    assert columns.min() > width / 2, "the last of three heads"
    assert np.ptp(rows) > 8 * np.ptp(columns), "a column"


def test_a_thumbnail_of_a_long_text_shows_every_large_weight(tmp_path: Path) -> None:
    weights = np.zeros((1, 12, 700, 700), dtype=np.float32)
    for head in range(12):
        weights[0, head, 600 + head, 300] = 1
    draw_model(weights, "", tmp_path / "model")
    assert is_drawn(tmp_path / "model")
    pixels = imread(tmp_path / "model.png")[..., :3]
    dark = np.abs(pixels[:, : pixels.shape[1] * 9 // 10] - sequential(False)[-1] / 255).max(axis=-1) < 0.02
    columns = np.nonzero(dark.any(axis=0))[0]
    assert 1 + (np.diff(columns) > 1).sum() == 12
