"""Preview of instruction rows on the terminal, with the tokens that carry loss highlighted."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gpt2_lightning.inspection.preview import Kind, PreviewRow

_STYLES: dict[Kind, str] = {"prompt": "dim", "learned": "black on #56b4e9", "end": "black on #e69f00"}
"""Blue and orange, distinguishable with color vision deficiency (Okabe and Ito 2008)."""
_EDGE = "║"
_LINE = "↵"


def print_preview(rows: Sequence[PreviewRow], console: Console) -> None:
    """Print rows with their numbers of tokens. Without colors, tokens that carry loss are in brackets."""
    colored = console.color_system is not None
    console.print(_legend(colored))
    for number, row in enumerate(rows, 1):
        tokens = len(row.tokens)
        share = f"{row.n_targets} carry loss ({100 * row.n_targets / max(1, tokens):.0f} %)"
        examples = "1 example" if row.n_examples == 1 else f"{row.n_examples} examples"
        console.print(
            Text(f"\nrow {number}: {examples}, {tokens} tokens, {share}, {row.padding} padding", style="bold")
        )
        console.print(_drawn(row, colored))


def _legend(colored: bool) -> Text:
    if not colored:
        return Text(
            f"[carries loss], end of text in its own brackets, {_EDGE} between examples that do not see each other"
        )
    return Text.assemble(
        ("read alone", _STYLES["prompt"]),
        "  ",
        ("carries loss", _STYLES["learned"]),
        "  ",
        ("end of text, learned", _STYLES["end"]),
        f"  {_EDGE} between examples that do not see each other",
    )


def _drawn(row: PreviewRow, colored: bool) -> Text:
    """Format the tokens of a row, with the line breaks of the text."""
    drawn = Text(overflow="fold")
    before: Kind = "prompt"
    for place, token in enumerate(row.tokens):
        if not colored and token.kind != before:
            drawn.append(("]" if before != "prompt" else "") + ("[" if token.kind != "prompt" else ""))
        if token.begins and place:
            drawn.append(f"\n{_EDGE}\n")
        drawn.append(token.label, style=_STYLES[token.kind])
        if token.label.endswith(_LINE):
            drawn.append("\n")
        before = token.kind
    if not colored and before != "prompt":
        drawn.append("]")
    if row.padding:
        places = "1 place" if row.padding == 1 else f"{row.padding} places"
        drawn.append(f"\n{_EDGE}\n{places} of padding", style="dim")
    return drawn
