"""Display of token probabilities as colors and numbers."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from gpt2_lightning.generation import Token
from gpt2_lightning.inspection.colormaps import sequential
from gpt2_lightning.inspection.token_labels import token_label
from gpt2_lightning.tokenizers import Tokenizer

BOUNDS = (0.01, 0.05, 0.2, 0.5, 0.9)
"""Lower bounds of the probability ranges with a color, spaced unevenly like typical probabilities."""
_NAMES = ("below 1 %", "1-5 %", "5-20 %", "20-50 %", "50-90 %", "90 % and above")
_WIDEST = 20


@functools.cache
def styles() -> tuple[Style, ...]:
    """Return a background for each range of probabilities, from dark to light, with a legible foreground."""
    chosen = [sequential(dark=True)[round(i * 255 / len(BOUNDS))].tolist() for i in range(len(_NAMES))]
    return tuple(
        Style(color="#000000" if luminance(rgb) > 0.18 else "#ffffff", bgcolor="#{:02x}{:02x}{:02x}".format(*rgb))
        for rgb in chosen
    )


def style_of(log_probability: float | None) -> Style:
    """Return the style of a token, given its log-probability in nats."""
    return styles()[bisect.bisect_right(BOUNDS, math.exp(log_probability or 0.0))]


def legend() -> Text:
    """Return the legend of the colors on one line."""
    line = Text("probability of each token: ")
    for style, name in zip(styles(), _NAMES, strict=True):
        line.append(f" {name} ", style)
    return line


def colored(text: str, log_probability: float | None) -> Text:
    """Format a token in its color. A line feed is shown as ↵, and the color ends before it."""
    drawn, style = Text(), style_of(log_probability)
    *lines, rest = text.split("\n")
    for line in lines:
        drawn.append(f"{line}↵", style)
        drawn.append("\n")
    return drawn.append(rest, style)


def token_lines(tokens: Sequence[Token], tokenizer: Tokenizer) -> Iterator[Text]:
    """Yield one line per token: its probability and, if known, the most probable tokens at its position."""

    def label(token: int) -> str:
        return token_label(tokenizer.token_bytes(token))

    shown = {label(i) for token in tokens for i in (token.id, *(other for other, _ in token.likeliest))}
    width = max([len("token"), *(min(cell_len(one), _WIDEST) for one in shown)]) + 2
    alternatives = any(token.likeliest for token in tokens)
    yield Text(f"{'p':<7}{'token':<{width}}{'likeliest' if alternatives else ''}".rstrip(), "bold")
    for token in tokens:
        line = Text(f"{_number(token.log_probability)}  ")
        line.append(label(token.id), style_of(token.log_probability))
        column = len(_number(0.0)) + 2
        for other, log_probability in token.likeliest:
            column += width
            line.append(" " * max(1, column - line.cell_len))
            line.append(f"{_number(log_probability)} ", "dim")
            column += len(_number(0.0)) + 1
            line.append(label(other), "bold" if other == token.id else "")
        yield line


def summary(tokens: Iterable[Token]) -> str:
    """Format the mean log-probability and the perplexity of a text."""
    found = [token.log_probability for token in tokens if token.log_probability is not None]
    mean = sum(found) / max(1, len(found))
    return f"{len(found)} tokens, log-probability {mean:.3f} a token, perplexity {math.exp(-mean):.2f}"


def has_colors(console: Console) -> bool:
    """Whether a console shows the colors; with only 16 of them, several ranges would look the same."""
    return console.color_system in ("256", "truecolor") and not console.no_color


def _number(log_probability: float | None) -> str:
    probability = math.exp(log_probability or 0.0)
    return f"{probability:.3f}" if probability >= 0.0005 else f"{probability:.0e}"


def luminance(rgb: Sequence[int]) -> float:
    """Relative luminance of an sRGB color, 0 to 1, as defined by WCAG."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
