"""The whole network: each step with its shapes and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture, dropout, plural
from gpt2_lightning.inspection.diagrams.canvas import FAINT, LINE, WIDTH, Canvas, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT, _BOX = 82.0, 232.0
_COUNTS, _SHARES = 430.0, WIDTH - 14
_ROW, _GAP = 27.0, 17.0
_PLUS = 7.0
"""Radius of a sum."""
_TOP = 54.0
_SKIP = 64.0
"""x of the residual connections."""
_TIE = 24.0
"""x of the line between the embedding and a head that shares its weight."""


@dataclass(frozen=True)
class _Step:
    """A box, and the shape of what it gives."""

    module: str
    """Name in the network; empty for a function without parameters."""
    kind: Kind
    lines: tuple[str, str]
    shape: str


def draw_network(architecture: Architecture) -> Figure:
    """Draw all steps from token ids to logits, from top to bottom."""
    config = architecture.config
    before, inside, after = _before(architecture), _inside(architecture), _after(architecture)
    blocks_top = _TOP + (1 + len(before)) * (_ROW + _GAP)
    inside_height = 34 + len(inside) * (_ROW + _GAP) + 2 * (2 * _PLUS + 15)
    height = blocks_top + inside_height + len(after) * (_ROW + _GAP) + 46
    canvas = Canvas(
        height,
        f"GPT-2: {architecture.total:,} parameters",
        f"{plural(config.n_layer, 'layer')} · {plural(config.n_head, 'head')} · width {config.n_embd:,} · "
        f"context {config.block_size:,} · vocabulary {config.vocab_size:,}",
    )
    canvas.text(_COUNTS, 50, "parameters", 7.5, FAINT, align="right")
    canvas.text(_SHARES, 50, "share", 7.5, FAINT, align="right")
    middle = _LEFT + _BOX / 2
    canvas.text(middle, _TOP + _ROW / 2, "token ids", 8, bold=True)
    y = _TOP + _ROW - 6
    y = _down(canvas, y, _GAP + 6, architecture.shape("B", "T"))
    embedding_y = y + _ROW / 2
    for step in before:
        y = _draw(canvas, step, y, architecture)
    y = _draw_blocks(canvas, inside, y, architecture)
    for step in after:
        head_y = y + _ROW / 2
        y = _draw(canvas, step, y, architecture)
    canvas.text(middle, y + 7, "logits of the next token", 8, bold=True)
    if config.tied_head:
        canvas.line([(_LEFT, embedding_y), (_TIE, embedding_y), (_TIE, head_y), (_LEFT, head_y)], dashed=True)
        canvas.text(_TIE - 9, (embedding_y + head_y) / 2, "shared weight", 7.5, FAINT, rotation=90)
    canvas.text(
        12,
        height - 10,
        f"B: texts in a batch. T: tokens in each, at most {config.block_size:,}.",
        7.5,
        FAINT,
        align="left",
    )
    return canvas.figure


def _before(architecture: Architecture) -> list[_Step]:
    config, shape = architecture.config, architecture.shape("B", "T", architecture.config.n_embd)
    rows = f"{config.vocab_rows:,} × {config.n_embd:,}"
    if architecture.padding_rows:
        rows += f", of which {plural(architecture.padding_rows, 'row')} of padding"
    steps = [_Step("wte", "embedding", ("wte: token embedding", rows), shape)]
    if architecture.adds_positions:
        has_table = architecture.count("wpe") > 0
        note = f"{config.positions}, {config.block_size:,} × {config.n_embd:,}"
        note += "" if has_table else ", not trained"
        steps.append(_Step("wpe", "embedding", ("wpe: + position embedding", note + dropout(config.embd_pdrop)), shape))
    return steps


def _inside(architecture: Architecture) -> list[_Step]:
    config, C = architecture.config, architecture.config.n_embd
    shape = architecture.shape("B", "T", C)
    residual = dropout(config.resid_pdrop)
    attention = architecture.linear(C, 3 * C, config.qkv_bias)
    norm = f"{C:,} scales and {C:,} shifts"
    heads = f"{plural(config.n_head, 'head')} of {plural(config.head_size, 'channel')}{dropout(config.attn_pdrop)}"
    return [
        _Step("ln_1", "norm", ("ln_1: layer norm", norm), shape),
        _Step("attn.c_attn", "attention", ("attn.c_attn: queries, keys, values", attention),
              architecture.shape("B", "T", 3 * C)),
        _Step("", "attention", ("causal attention", heads), shape),
        _Step("attn.c_proj", "attention", ("attn.c_proj", architecture.linear(C, C) + residual), shape),
        _Step("ln_2", "norm", ("ln_2: layer norm", norm), shape),
        _Step("mlp.c_fc", "mlp", ("mlp.c_fc", architecture.linear(C, 4 * C)), architecture.shape("B", "T", 4 * C)),
        _Step("", "mlp", ("GELU", config.gelu), architecture.shape("B", "T", 4 * C)),
        _Step("mlp.c_proj", "mlp", ("mlp.c_proj", architecture.linear(4 * C, C) + residual), shape),
    ]  # fmt: skip


def _after(architecture: Architecture) -> list[_Step]:
    config, C = architecture.config, architecture.config.n_embd
    head = architecture.linear(C, config.vocab_size, bias=False)
    if architecture.padding_rows:
        head += f", {plural(architecture.padding_rows, 'row')} of padding cut off"
    return [
        _Step("ln_f", "norm", ("ln_f: layer norm", f"{C:,} scales and {C:,} shifts"), architecture.shape("B", "T", C)),
        _Step("lm_head", "head", ("lm_head: output head", head), architecture.shape("B", "T", config.vocab_size)),
    ]


def _draw_blocks(canvas: Canvas, steps: list[_Step], y: float, architecture: Architecture) -> float:
    """Draw one block in a frame, with the sum of all; return the y below it."""
    n_layer, middle = architecture.config.n_layer, _LEFT + _BOX / 2
    block, top = architecture.count("h.0"), y
    canvas.text(_SKIP - 6, y + 12, plural(n_layer, "block"), 8, bold=True, align="left")
    canvas.text(_LEFT + _BOX, y + 12, f"{block:,} parameters each", 7.5, FAINT, align="right", width=_BOX / 2 - 16)
    canvas.text(_COUNTS, y + 12, f"{n_layer * block:,}", 8, bold=True, align="right")
    canvas.text(_SHARES, y + 12, _share(n_layer * block, architecture.total), 8, bold=True, align="right")
    branch = y + 24
    y = _down(canvas, y, 34)
    for step in steps:
        y = _draw(canvas, step, y, architecture, is_in_block=True)
        if step.module.endswith("c_proj"):  # the end of a sub-layer
            y += _PLUS
            canvas.arrow([(middle, branch), (_SKIP, branch), (_SKIP, y), (middle - _PLUS, y)])
            canvas.plus(middle, y, _PLUS)
            branch = y + _PLUS + 5
            y = _down(canvas, y + _PLUS, 15)
    left = _SKIP - 14
    canvas.rectangle(left, top, _LEFT + _BOX + 14 - left, y - 6 - top, "#fbfcfd", "#8c959f")
    return y


def _draw(canvas: Canvas, step: _Step, y: float, architecture: Architecture, is_in_block: bool = False) -> float:
    """Draw a box and the arrow below it; return the y of the arrow's head."""
    canvas.box(_LEFT, y, _BOX, _ROW, step.kind, step.lines)
    middle = y + _ROW / 2
    if step.module and is_in_block:
        canvas.text(_COUNTS, middle, f"{architecture.count(f'h.0.{step.module}'):,}", 8, FAINT, align="right")
    elif step.module:
        count = architecture.count(step.module)
        is_shared = step.module == "lm_head" and architecture.config.tied_head
        canvas.text(_COUNTS, middle, "shared" if is_shared else f"{count:,}", 8, align="right")
        canvas.text(_SHARES, middle, "" if is_shared else _share(count, architecture.total), 8, align="right")
    return _down(canvas, y + _ROW, _GAP, step.shape)


def _share(count: int, total: int) -> str:
    share = count / total
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _down(canvas: Canvas, y: float, length: float, shape: str = "") -> float:
    middle = _LEFT + _BOX / 2
    canvas.arrow([(middle, y), (middle, y + length)])
    canvas.text(middle + 6, y + length / 2, shape, 7, LINE, align="left")
    return y + length
