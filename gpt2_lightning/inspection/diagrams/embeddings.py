"""From token ids to vectors: a row of the token embedding, plus a row of the position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture, dropout, plural
from gpt2_lightning.inspection.diagrams.canvas import FAINT, FILLS, LINE, WIDTH, Canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 352.0
_EXAMPLES = 5
_CELL = 15.0
_TABLE_TOP, _TABLE_HEIGHT, _TABLE_WIDTH = 96.0, 150.0, 56.0
_ROWS_TOP = _TABLE_TOP + (_TABLE_HEIGHT - _EXAMPLES * _CELL) / 2
_VECTOR = 54.0
_IDS, _WTE, _TOKENS, _POSITIONS, _WPE, _INDEX = 16.0, 86.0, 180.0, 266.0, 358.0, 450.0
"""x of the left edges, from left to right."""
_PADDING_HEIGHT = 12.0


def draw_embeddings(architecture: Architecture) -> Figure:
    """Draw the look-ups in both tables and their sum."""
    config, shape = architecture.config, architecture.shape
    wte, wpe = architecture.count("wte"), architecture.count("wpe")
    canvas = Canvas(
        _HEIGHT,
        f"Embeddings: {wte + wpe:,} parameters",
        "Each token id selects a row of wte, and its position a row of wpe. Their sum enters the first block."
        if architecture.adds_positions
        else "Each token id selects a row of wte, which enters the first block.",
    )
    tokens = min(_EXAMPLES, config.block_size)
    _draw_tokens(canvas, architecture, tokens)
    end = _TOKENS + _VECTOR / 2
    if architecture.adds_positions:
        _draw_positions(canvas, architecture, tokens)
        end = (_TOKENS + _VECTOR + _POSITIONS) / 2
        canvas.plus(end, _ROWS_TOP + tokens * _CELL / 2)
        start = _ROWS_TOP + tokens * _CELL / 2 + 7
    else:
        start = _ROWS_TOP + tokens * _CELL
    if architecture.rotates:
        canvas.text(_POSITIONS, 320, "Positions rotate queries and keys in every block.", 7.5, align="left")
    bottom = _TABLE_TOP + _TABLE_HEIGHT + 30
    canvas.arrow([(end, start), (end, bottom)])
    lines = ("x: residual stream", shape("B", "T", config.n_embd) + dropout(config.embd_pdrop))
    canvas.box(end - 75, bottom, 150, 30, "tensor", lines)
    note = f"B: texts in a batch, one of them drawn. T: tokens in each, at most {config.block_size:,}, {tokens} drawn."
    canvas.text(12, _HEIGHT - 12, note, 7.5, FAINT, align="left", width=WIDTH - 24)
    return canvas.figure


def _draw_tokens(canvas: Canvas, architecture: Architecture, tokens: int) -> None:
    """Draw example ids, spread over the vocabulary, and their rows of `wte`."""
    config = architecture.config
    canvas.text(_IDS, _TABLE_TOP - 20, "token ids", 8, bold=True, align="left")
    canvas.text(_IDS, _TABLE_TOP - 9, architecture.shape("B", "T"), 7, FAINT, align="left")
    padding = _PADDING_HEIGHT if architecture.padding_rows else 0.0
    height = _TABLE_HEIGHT - padding
    _draw_table(canvas, _WTE, "wte", (config.vocab_rows, config.n_embd), plural(architecture.count("wte"), "parameter"))
    if padding:
        canvas.rectangle(_WTE, _TABLE_TOP + height, _TABLE_WIDTH, padding, "white", FILLS["embedding"][1], hatch="////")
        note = f"{plural(architecture.padding_rows, 'row')} of padding"
        canvas.text(_WTE + _TABLE_WIDTH / 2, _TABLE_TOP + _TABLE_HEIGHT + 20, note, 7, FAINT, width=100)
    for i in range(tokens):
        share = (0.13 + 0.618 * i) % 1  # spread evenly
        y, middle = _ROWS_TOP + i * _CELL, _ROWS_TOP + (i + 0.5) * _CELL
        row = _TABLE_TOP + 4 + share * (height - 8)
        canvas.rectangle(_IDS, y, 42, _CELL, "white", LINE)
        canvas.text(_IDS + 21, middle, f"{int(share * config.vocab_size):,}", 7, width=38)
        canvas.line([(_IDS + 42, middle), (_WTE, row)])
        canvas.rectangle(_WTE, row - 1.5, _TABLE_WIDTH, 3, FILLS["embedding"][1])
        canvas.line([(_WTE + _TABLE_WIDTH, row), (_TOKENS, middle)])
    _draw_vectors(canvas, _TOKENS, tokens, architecture)


def _draw_positions(canvas: Canvas, architecture: Architecture, tokens: int) -> None:
    """Draw the first positions and their rows of `wpe`."""
    config, count = architecture.config, architecture.count("wpe")
    canvas.text(_INDEX, _TABLE_TOP - 20, "positions", 8, bold=True, align="left")
    canvas.text(_INDEX, _TABLE_TOP - 9, architecture.shape("T"), 7, FAINT, align="left")
    trained = plural(count, "parameter") if count else "not trained"
    _draw_table(canvas, _WPE, "wpe", (config.block_size, config.n_embd), trained)
    canvas.text(_WPE + _TABLE_WIDTH / 2, _TABLE_TOP + _TABLE_HEIGHT + 20, config.positions, 7, FAINT, width=100)
    for i in range(tokens):
        y, middle = _ROWS_TOP + i * _CELL, _ROWS_TOP + (i + 0.5) * _CELL
        row = _TABLE_TOP + 4 + 6 * i
        canvas.rectangle(_INDEX, y, 34, _CELL, "white", LINE)
        canvas.text(_INDEX + 17, middle, str(i), 7)
        canvas.line([(_INDEX, middle), (_WPE + _TABLE_WIDTH, row)])
        canvas.rectangle(_WPE, row - 1.5, _TABLE_WIDTH, 3, FILLS["embedding"][1])
        canvas.line([(_WPE, row), (_POSITIONS + _VECTOR, middle)])
    _draw_vectors(canvas, _POSITIONS, tokens, architecture)


def _draw_table(canvas: Canvas, x: float, name: str, sizes: tuple[int, int], note: str) -> None:
    """Draw a table with its name and sizes above it, and its parameters below."""
    rows, columns = sizes
    middle = x + _TABLE_WIDTH / 2
    canvas.rectangle(x, _TABLE_TOP, _TABLE_WIDTH, _TABLE_HEIGHT, *FILLS["embedding"])
    canvas.text(middle, _TABLE_TOP - 20, name, 8, bold=True)
    canvas.text(middle, _TABLE_TOP - 9, f"{rows:,} × {columns:,}", 7, FAINT, width=88)
    canvas.text(middle, _TABLE_TOP + _TABLE_HEIGHT + 9, note, 7, FAINT, width=100)


def _draw_vectors(canvas: Canvas, x: float, tokens: int, architecture: Architecture) -> None:
    """Draw a vector for each token, with their shape above."""
    fill, edge = FILLS["embedding"]
    C = architecture.config.n_embd
    sizes = ("B", "T", C) if x == _TOKENS else ("T", C)
    canvas.text(x + _VECTOR / 2, _ROWS_TOP - 8, architecture.shape(*sizes), 7, FAINT)
    for i in range(tokens):
        canvas.rectangle(x, _ROWS_TOP + i * _CELL + 2, _VECTOR, _CELL - 4, fill, edge)
