"""Causal self-attention: queries, keys and values, the mask, and the heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture, dropout, plural
from gpt2_lightning.inspection.diagrams.canvas import FAINT, FILLS, WIDTH, Canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT, _BOX, _ROW, _GAP = 14.0, 250.0, 30.0, 18.0
_THIRD = 74.0
_TOP, _HEIGHT = 48.0, 470.0
_RIGHT = 306.0
_MASK_TOKENS = 8
_SQUARE = 19.0
_HEADS_DRAWN = 5
_HEAD_SIDE = 30.0


def draw_attention(architecture: Architecture) -> Figure:
    """Draw the steps from top to bottom, and beside them the mask and the heads."""
    config, shape = architecture.config, architecture.shape
    C, H, D = config.n_embd, config.n_head, config.head_size
    canvas = Canvas(
        _HEIGHT,
        f"Causal self-attention: {architecture.count('h.0.attn'):,} parameters",
        "Each head averages the values of a token and of those before it, with its own weights.",
    )
    middle = _LEFT + _BOX / 2
    y = _down(canvas, _TOP, shape("B", "T", C))
    projection = architecture.linear(C, 3 * C, config.qkv_bias)
    canvas.box(_LEFT, y, _BOX, _ROW, "attention", ("c_attn", projection))
    y += _ROW
    columns = [_LEFT + _THIRD / 2 + i * (_BOX - _THIRD) / 2 for i in range(3)]
    for x, letter, name in zip(columns, "qkv", ("queries", "keys", "values"), strict=True):
        canvas.arrow([(x, y), (x, y + _GAP)])
        canvas.box(x - _THIRD / 2, y + _GAP, _THIRD, _ROW, "tensor", (f"{letter}: {name}", shape("B", H, "T", D)))
    y += _GAP + _ROW
    score_top = y + _GAP
    rotated = "positions rotate q and k" if architecture.rotates else ""
    canvas.text(_LEFT, score_top - 8, rotated, 7, FAINT, align="left")
    for x in columns[:2]:
        canvas.arrow([(x, y), (x, score_top)])
    narrow = columns[1] + _THIRD / 2 - _LEFT
    center = _LEFT + narrow / 2
    canvas.box(_LEFT, score_top, narrow, _ROW, "attention", ("scores", f"q kᵀ / √{D:,}"))
    y = _down(canvas, score_top + _ROW, shape("B", H, "T", "T"), center)
    canvas.box(_LEFT, y, narrow, _ROW, "attention", ("causal mask", "−∞ for keys after the query"))
    y = _down(canvas, y + _ROW, shape("B", H, "T", "T"), center)
    weights = f"each row sums to 1{dropout(config.attn_pdrop)}"
    canvas.box(_LEFT, y, narrow, _ROW, "attention", ("softmax", weights))
    y = _down(canvas, y + _ROW, shape("B", H, "T", "T"), center)
    canvas.arrow([(columns[2], score_top - _GAP), (columns[2], y)])
    canvas.box(_LEFT, y, _BOX, _ROW, "attention", ("weighted sum of values", "weights · v"))
    y = _down(canvas, y + _ROW, shape("B", H, "T", D))
    canvas.box(_LEFT, y, _BOX, _ROW, "attention", ("concatenate heads", f"{H:,} × {D:,} = {plural(C, 'channel')}"))
    y = _down(canvas, y + _ROW, shape("B", "T", C))
    output = architecture.linear(C, C) + dropout(config.resid_pdrop)
    canvas.box(_LEFT, y, _BOX, _ROW, "attention", ("c_proj", output))
    y = _down(canvas, y + _ROW, shape("B", "T", C))
    canvas.text(middle, y + 7, "added to the residual stream", 7.5, FAINT)
    _draw_mask(canvas, min(_MASK_TOKENS, config.block_size), _TOP + 20)
    _draw_heads(canvas, architecture, 310)
    return canvas.figure


def _down(canvas: Canvas, y: float, shape: str, x: float = _LEFT + _BOX / 2) -> float:
    canvas.arrow([(x, y), (x, y + _GAP)])
    canvas.text(x + 6, y + _GAP / 2, shape, 7, FAINT, align="left")
    return y + _GAP


def _draw_mask(canvas: Canvas, tokens: int, top: float) -> None:
    """Draw which keys each query sees, for the first tokens of a text."""
    seen, edge = FILLS["attention"][0], "#c9ced4"
    left = _RIGHT + 16
    canvas.text(_RIGHT, top - 12, f"The mask, for a text of {plural(tokens, 'token')}", 8, bold=True, align="left")
    canvas.text(left + tokens * _SQUARE / 2, top + 4, "key", 7, FAINT)
    canvas.text(_RIGHT + 3, top + 20 + tokens * _SQUARE / 2, "query", 7, FAINT, rotation=90)
    for i in range(tokens):
        canvas.text(left + (i + 0.5) * _SQUARE, top + 14, str(i), 6.5, FAINT)
        canvas.text(left - 5, top + 20 + (i + 0.5) * _SQUARE, str(i), 6.5, FAINT)
        for j in range(tokens):
            is_seen = j <= i
            x, y = left + j * _SQUARE, top + 20 + i * _SQUARE
            canvas.rectangle(x, y, _SQUARE, _SQUARE, seen if is_seen else "white", edge)
            canvas.text(x + _SQUARE / 2, y + _SQUARE / 2, "✓" if is_seen else "−∞", 6.5, FAINT)
    bottom = top + 20 + tokens * _SQUARE
    canvas.text(_RIGHT, bottom + 14, "✓ score kept; −∞ becomes weight 0 by softmax", 7, FAINT, align="left")


def _draw_heads(canvas: Canvas, architecture: Architecture, top: float) -> None:
    """Draw the channels as a row of heads, and the weights of each head as a triangle."""
    config = architecture.config
    fill, edge = FILLS["attention"]
    width, H = WIDTH - 14 - _RIGHT, config.n_head
    canvas.text(_RIGHT, top, f"{plural(H, 'head')}, each with its own (T, T) weights", 8, bold=True, align="left",
                width=width)  # fmt: skip
    drawn = min(H, _HEADS_DRAWN)
    side = _HEAD_SIDE
    for i in range(drawn):
        x = _RIGHT + i * (width - side) / (_HEADS_DRAWN - 1)
        canvas.triangle(x, top + 14, side, fill, edge)
        canvas.text(x + side / 2, top + 14 + side + 8, f"head {i}", 7, FAINT)
    if drawn < H:
        canvas.text(_RIGHT + width, top + 14 + side + 22, f"and {H - drawn:,} more", 7, FAINT, align="right")
    bar = top + 96
    canvas.text(_RIGHT, bar - 8, f"{plural(config.n_embd, 'channel')}, {config.head_size:,} for each head", 7, FAINT,
                align="left")  # fmt: skip
    for i in range(H):
        canvas.rectangle(_RIGHT + i * width / H, bar, width / H, 12, fill, edge)
