"""Diagrams show what follows from a configuration, and nothing in them overlaps."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.figure
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor

from gpt2_lightning.inspection.diagrams.architecture import Architecture
from gpt2_lightning.inspection.diagrams.parts import PARTS, diagram_files, draw_diagram
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.positions import POSITIONS, PositionalEncoding
from gpt2_lightning.model.size import count_parameters

DOCS = Path(__file__).parents[2] / "docs"
SMALL = GPT2Config(vocab_size=23003, block_size=1013, n_layer=3, n_head=5, n_embd=35)
C, V, T, L = SMALL.n_embd, SMALL.vocab_size, SMALL.block_size, SMALL.n_layer
ATTENTION, MLP = 4 * C * C + 4 * C, 8 * C * C + 5 * C
BLOCK = ATTENTION + MLP + 4 * C


class Rotary(PositionalEncoding):
    """Positions that are applied to queries and keys alone."""

    def __init__(self, *sizes: object) -> None:
        super().__init__()

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return q, k


def drawn(part: str, **changes: object) -> matplotlib.figure.Figure:
    return PARTS[part](Architecture.of(dataclasses.replace(SMALL, **changes)))  # type: ignore[arg-type]  # any field


def written(figure: matplotlib.figure.Figure) -> list[Text]:
    found = (artist for artist in figure.findobj(Text) if isinstance(artist, Text))
    return [text for text in found if text.get_visible() and text.get_text()]


def texts(part: str, **changes: object) -> list[str]:
    return [text.get_text() for text in written(drawn(part, **changes))]


def texts_of_file(svg: Path) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_network_has_shapes_and_counts_of_each_step() -> None:
    found = texts("network")
    total = V * C + T * C + L * BLOCK + 2 * C
    assert total == count_parameters(SMALL)
    assert found[0] == f"GPT-2: {total:,} parameters"
    assert found[1] == "3 layers · 5 heads · width 35 · context 1,013 · vocabulary 23,003"
    for count in (V * C, T * C, L * BLOCK, 3 * C * C + 3 * C, C * C + C, 4 * C * C + 4 * C, 4 * C * C + C, 2 * C):
        assert f"{count:,}" in found
    assert f"{BLOCK:,} parameters each" in found
    assert {"(B, T)", "(B, T, 35)", "(B, T, 105)", "(B, T, 140)", "(B, T, 23,003)"} <= set(found)
    assert f"{L * BLOCK / total:.1%}" in found
    assert {"shared", "shared weight", "5 heads of 7 channels"} <= set(found)


def test_a_head_with_a_weight_of_its_own_is_counted() -> None:
    found = texts("network", tied_head=False)
    assert found.count(f"{V * C:,}") == 2
    assert "shared weight" not in found


def test_rows_of_padding_are_named() -> None:
    rows = 23040
    found = texts("network", pad_vocab_to_multiple_of=64)
    assert "23,040 × 35, of which 37 rows of padding" in found
    assert "35 → 23,003, without bias, 37 rows of padding cut off" in found
    assert "(B, T, 23,003)" in found
    assert f"{rows * C:,} parameters" in texts("embeddings", pad_vocab_to_multiple_of=64)


def test_dropout_and_biases_are_those_of_the_configuration() -> None:
    assert not any("dropout" in text for part in PARTS for text in texts(part))
    changes = {"attn_pdrop": 0.1, "resid_pdrop": 0.2, "embd_pdrop": 0.3, "qkv_bias": False}
    found = texts("network", **changes)
    assert {"5 heads of 7 channels, dropout 0.1", "35 → 35, with bias, dropout 0.2", "35 → 105, without bias"} <= set(
        found
    )
    assert "learned, 1,013 × 35, dropout 0.3" in found
    assert "35 → 105, without bias" in texts("attention", **changes)
    assert {"dropout 0.1", "without bias", "dropout 0.2"} <= set(texts("block", **changes))


def test_a_block_has_the_counts_of_its_parts() -> None:
    found = texts("block")
    assert found[0] == f"A block: {BLOCK:,} parameters"
    assert {f"attn: {ATTENTION:,} parameters", f"mlp: {MLP:,} parameters", "→ (B, T, 140)"} <= set(found)
    assert "The network has 3 blocks of the same shape, each with its own weights." in found


def test_attention_has_heads_and_a_mask() -> None:
    found = texts("attention")
    assert found.count("(B, 5, T, 7)") == 4  # queries, keys, values, and the mixed values
    assert found.count("(B, 5, T, T)") == 3
    assert {"q kᵀ / √7", "5 × 7 = 35 channels", "5 heads, each with its own (T, T) weights"} <= set(found)
    assert (found.count("✓"), found.count("−∞")) == (8 * 9 // 2, 8 * 7 // 2)
    assert texts("attention", block_size=3).count("✓") == 6
    assert "and 2 more" in texts("attention", n_head=7)


def test_positions_are_of_the_configured_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"learned", f"{T * C:,} parameters"} <= set(texts("embeddings"))
    assert {"sinusoidal", "not trained"} <= set(texts("embeddings", positions="sinusoidal"))
    assert "sinusoidal, 1,013 × 35, not trained" in texts("network", positions="sinusoidal")
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)
    assert not any("wpe" in text for text in texts("embeddings", positions="rotary"))
    assert "positions rotate q and k" in texts("attention", positions="rotary")
    assert "positions rotate q and k" not in texts("attention")


def test_both_kinds_of_gelu_are_drawn_and_the_used_one_is_named() -> None:
    assert "GELU: this network computes the tanh approximation" in texts("gelu")
    assert "GELU: this network computes the exact function" in texts("gelu", gelu="exact")
    assert "at most 0.00047 apart" in texts("gelu")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vocab_size": 1, "block_size": 1, "n_layer": 1, "n_head": 1, "n_embd": 1},
        {"vocab_size": 256003, "block_size": 131072, "n_layer": 123, "n_head": 64, "n_embd": 12288,
         "pad_vocab_to_multiple_of": 64, "attn_pdrop": 0.125, "resid_pdrop": 0.125, "embd_pdrop": 0.125},
        {"tied_head": False, "qkv_bias": False, "positions": "sinusoidal", "gelu": "exact"},
        {"positions": "rotary"},
    ],
    ids=["small", "smallest", "large", "options", "rotary"],
)  # fmt: skip
def test_nothing_overlaps_and_nothing_leaves_the_page(
    part: str, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)
    figure = drawn(part, **changes)
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in written(figure)]
    for text, box in boxes:
        assert tuple(Bbox.union([figure.bbox, box]).extents) == tuple(figure.bbox.extents), text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        leading = 1.0  # pixels, of 200 an inch
        assert not first.padded(-leading).overlaps(second.padded(-leading)), f"{one!r} and {other!r} overlap"


@pytest.mark.parametrize("part", PARTS)
def test_both_formats_are_written_and_an_svg_is_the_same_each_time(part: str, tmp_path: Path) -> None:
    first, second, png = (tmp_path / name for name in ("a", "b", "c"))
    for path, format_ in ((first, "svg"), (second, "svg"), (png, "png")):
        draw_diagram(SMALL, part, path, format_)
    assert first.read_bytes() == second.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert texts_of_file(first)[0] == texts(part)[0]


@pytest.mark.parametrize("part", PARTS)
def test_the_diagrams_of_the_docs_are_those_of_gpt2(part: str, tmp_path: Path) -> None:
    draw_diagram(GPT2Config(), part, tmp_path / "now.svg", "svg")
    committed = DOCS / "pictures" / f"model-{part}.svg"
    assert texts_of_file(committed) == texts_of_file(tmp_path / "now.svg")
    assert f"pictures/model-{part}.svg" in (DOCS / "model.md").read_text(encoding="utf-8")


def test_a_name_with_a_placeholder_stands_for_all_parts() -> None:
    assert diagram_files("a/{part}.svg") == {part: Path(f"a/{part}.svg") for part in PARTS}
    assert diagram_files("a.svg") == {"network": Path("a.svg")}
