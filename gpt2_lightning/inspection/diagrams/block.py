"""One block: two sub-layers that read a normed copy of the residual stream and add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture, dropout, plural
from gpt2_lightning.inspection.diagrams.canvas import FAINT, WIDTH, Canvas, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STREAM = 62.0
"""x of the residual stream."""
_LEFT, _RIGHT, _GAP = 104.0, WIDTH - 14, 14.0
_BOX = 58.0
_BELOW = 26.0
"""Points from the boxes down to the line that leads back."""
_TOPS = 96.0, 236.0
_HEIGHT = 390.0
_Box = tuple[Kind, tuple[str, ...], str]
"""Kind, lines, and the module that the parameters belong to, if any."""


def draw_block(architecture: Architecture) -> Figure:
    """Draw the residual stream downwards, and each sub-layer as a row beside it."""
    config, count = architecture.config, architecture.count("h.0")
    canvas = Canvas(
        _HEIGHT,
        f"A block: {count:,} parameters",
        f"The network has {plural(config.n_layer, 'block')} of the same shape, each with its own weights.",
    )
    shape = architecture.shape("B", "T", config.n_embd)
    canvas.text(_STREAM, 54, "residual stream", 8, bold=True)
    canvas.text(_STREAM, 66, shape, 7, FAINT)
    canvas.line([(_STREAM, 74), (_STREAM, _HEIGHT - 52)], thick=True)
    canvas.arrow([(_STREAM, _HEIGHT - 54), (_STREAM, _HEIGHT - 44)])
    canvas.text(_STREAM, _HEIGHT - 36, shape, 7, FAINT)
    for top, name, boxes in zip(_TOPS, ("attn", "mlp"), (_attention(architecture), _mlp(architecture)), strict=True):
        _draw_sub_layer(canvas, architecture, top, name, boxes)
    note = "Sub-layers only add to the residual stream, so gradients reach every block through the sums."
    canvas.text(12, _HEIGHT - 12, note, 7.5, FAINT, align="left", width=WIDTH - 24)
    return canvas.figure


def _attention(architecture: Architecture) -> list[_Box]:
    config, C = architecture.config, architecture.config.n_embd
    bias = "with bias" if config.qkv_bias else "without bias"
    heads = f"{plural(config.n_head, 'head')} of {config.head_size:,}"
    dropped = dropout(config.attn_pdrop).removeprefix(", ")
    return [
        _norm(architecture, "ln_1"),
        ("attention", ("attn.c_attn", f"{C:,} → {3 * C:,}", bias), "attn.c_attn"),
        ("attention", ("attention", heads, "causal mask", *([dropped] if dropped else [])), ""),
        ("attention", ("attn.c_proj", f"{C:,} → {C:,}", "with bias", *_residual_dropout(architecture)), "attn.c_proj"),
    ]


def _mlp(architecture: Architecture) -> list[_Box]:
    config, C = architecture.config, architecture.config.n_embd
    return [
        _norm(architecture, "ln_2"),
        ("mlp", ("mlp.c_fc", f"{C:,} → {4 * C:,}", "with bias"), "mlp.c_fc"),
        ("mlp", ("GELU", config.gelu, "elementwise"), ""),
        ("mlp", ("mlp.c_proj", f"{4 * C:,} → {C:,}", "with bias", *_residual_dropout(architecture)), "mlp.c_proj"),
    ]


def _norm(architecture: Architecture, name: str) -> _Box:
    return "norm", (name, "layer norm", f"over {plural(architecture.config.n_embd, 'channel')}"), name


def _residual_dropout(architecture: Architecture) -> list[str]:
    note = dropout(architecture.config.resid_pdrop).removeprefix(", ")
    return [note] if note else []


def _draw_sub_layer(canvas: Canvas, architecture: Architecture, top: float, name: str, boxes: list[_Box]) -> None:
    width = (_RIGHT - _LEFT - (len(boxes) - 1) * _GAP) / len(boxes)
    middle, back = top + _BOX / 2, top + _BOX + _BELOW
    C = architecture.config.n_embd
    wide = 3 * C if name == "attn" else 4 * C
    shapes = [C, wide, C if name == "attn" else wide, C]
    canvas.text(_LEFT, top - 10, f"{name}: {architecture.count(f'h.0.{name}'):,} parameters", 8, FAINT, align="left")
    canvas.arrow([(_STREAM, middle), (_LEFT, middle)])
    for i, ((kind, lines, module), channels) in enumerate(zip(boxes, shapes, strict=True)):
        x = _LEFT + i * (width + _GAP)
        canvas.box(x, top, width, _BOX, kind, lines)
        count = f"{architecture.count(f'h.0.{module}'):,}" if module else "no parameters"
        canvas.text(x + width / 2 - 4, top + _BOX + 8, count, 7, FAINT, width=width - 12)
        shape = architecture.shape("B", "T", channels)
        canvas.text(x + width / 2 - 4, top + _BOX + 18, f"→ {shape}", 7, width=width - 12)
        if i:
            canvas.arrow([(x - _GAP, middle), (x, middle)])
    last = _RIGHT - 4
    canvas.line([(last, top + _BOX), (last, back), (_STREAM + 20, back)])
    canvas.arrow([(_STREAM + 20, back), (_STREAM + 7, back)])
    canvas.plus(_STREAM, back)
