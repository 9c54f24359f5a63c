"""Output of the verb `explain`: a summary on the terminal, and a folder with JSON, a page and plots."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.generation.token_colors import has_colors, luminance
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.inspection.attribution.deletion import RANDOM_ORDERS
from gpt2_lightning.inspection.attribution.export import (
    AttributedText,
    compared_name,
    format_value,
    mean_scores,
    scores,
    write_attributions,
)
from gpt2_lightning.inspection.attribution.methods import METHODS
from gpt2_lightning.inspection.attribution.page import write_attribution_page

_JSON, _PAGE = "explanation.json", "explanation.html"
OUTPUT_FILES = re.compile(r"explanation\.(json|html)|explanation(-\d+)?\.png")
"""Names of output files."""
_TEXTS_SHOWN = 3
_TOKENS_SHOWN = 5
_STEPS = 8
_BACKGROUND = (38, 38, 38)
_FOR, _AGAINST, _STRONG = (86, 180, 233), (230, 159, 0), (235, 235, 235)
"""Sky blue and orange, distinguishable with color vision deficiency (Okabe and Ito 2008), and white for unsigned
values."""


@dataclass(frozen=True)
class AttributionReport:
    """Attributions of texts by one classifier."""

    texts: Sequence[AttributedText]
    checkpoint: str
    """Display name of the classifier."""
    task: LabelTask

    @property
    def _unit(self) -> str:
        """The quantity whose drop is the deletion score."""
        return self.task.kind.unit

    def print_summary(self) -> None:
        """Print the first texts, in color if the terminal supports it, with strongest tokens and deletion scores."""
        for text in self.texts[:_TEXTS_SHOWN]:
            _print_tokens(text)
            beaten = {method: f"{text.result.beaten(method)} of {RANDOM_ORDERS}" for method in METHODS}
            self._print_scores(scores(text), beaten)
        if len(self.texts) > _TEXTS_SHOWN:
            print(f"\nand {len(self.texts) - _TEXTS_SHOWN} more in {_PAGE}")
        if len(self.texts) > 1:
            get_console().print(Text(f"\nall {len(self.texts)} texts, mean", "bold"))
            self._print_scores(mean_scores(self.texts), {})

    def _print_scores(self, found: dict[str, tuple[float, float]], beaten: dict[str, str]) -> None:
        """Print the deletion scores of each method."""
        table = Table(
            "method", title="without the tokens that each ranks highest", box=SIMPLE_HEAD, title_justify="left"
        )
        for column in (f"{self._unit} falls", "evidence falls", *(["beats random orders"] if beaten else [])):
            table.add_column(column, justify="right")
        for compared, pair in found.items():
            more = [beaten.get(compared, "")] if beaten else []
            table.add_row(compared_name(compared), *map(format_value, pair), *more)
        get_console().print(table)

    def write(self, target: Path, with_plots: bool) -> None:
        """Write JSON, page and plots into a folder."""
        write_attributions(self.texts, self.checkpoint, self._unit, target / _JSON)
        write_attribution_page(self.texts, self.checkpoint, self.task, target / _PAGE)
        if not with_plots:
            return
        from gpt2_lightning.inspection.attribution.plots import draw_attribution

        for number, text in enumerate(self.texts, start=1):
            name = "explanation.png" if len(self.texts) == 1 else f"explanation-{number}.png"
            draw_attribution(text, target / name)


def _print_tokens(text: AttributedText) -> None:
    console = get_console()
    console.print(Text(f"\n{text.heading}", "bold"))
    if not has_colors(console):
        console.print(Text(text.text))
    for method, known in METHODS.items():
        strongest = text.strongest(method, _TOKENS_SHOWN)
        values = "  ".join(f"{token} {format_value(value, known.is_signed)}" for token, value in strongest)
        console.print(Text(f"{known.name}: {values}"))
        if has_colors(console):
            console.print(colored(text.tokens, text.shades(method), known.is_signed))
    if has_colors(console):
        console.print(_legend())


def colored(tokens: Sequence[str], shades: Sequence[float], is_signed: bool) -> Text:
    """Tokens on backgrounds of their shades, -1 to 1: blue for, orange against, white for unsigned values."""
    drawn = Text()
    for token, shade in zip(tokens, shades, strict=True):
        drawn.append(token, _style(round(shade * _STEPS), is_signed))
        if token.endswith("↵"):
            drawn.append("\n")
    return drawn


@functools.cache
def _style(step: int, is_signed: bool) -> Style:
    end = _STRONG if not is_signed else _FOR if step >= 0 else _AGAINST
    share = abs(step) / _STEPS
    rgb = [round(low + share * (high - low)) for low, high in zip(_BACKGROUND, end, strict=True)]
    return Style(color="#000000" if luminance(rgb) > 0.18 else "#ffffff", bgcolor="#{:02x}{:02x}{:02x}".format(*rgb))


def _legend() -> Text:
    return Text.assemble(
        (" evidence for ", _style(_STEPS, True)),
        (" evidence against ", _style(-_STEPS, True)),
        (" importance, without a sign ", _style(_STEPS, False)),
        " each method on its own scale",
    )
