"""The preview on a terminal, with colors and without."""

from __future__ import annotations

import re

from rich.console import Console

from gpt2_lightning.app.finetuning.preview import print_preview
from gpt2_lightning.data.instruction.encoding import encode
from gpt2_lightning.data.tables import Message
from gpt2_lightning.inspection.preview import PreviewRow, preview
from tests.data.conversations import BARE, LETTERS


def rows(width: int = 12) -> list[PreviewRow]:
    pairs = [("ab", "c"), ("d\n", "ef")]
    made = [encode(BARE.render([Message("user", q), Message("assistant", a)]), LETTERS) for q, a in pairs]
    return preview([made], LETTERS, width)


def printed(console: Console, width: int = 12) -> str:
    with console.capture() as capture:
        print_preview(rows(width), console)
    return capture.get()


def test_without_colors_brackets_hold_what_carries_loss() -> None:
    lines = printed(Console(color_system=None, width=100)).splitlines()
    assert lines[2:] == [
        "row 1: 2 examples, 11 tokens, 5 carry loss (45 %), 3 padding",
        "ab?[c][<|endoftext|>]",
        "║",
        "d↵",
        "?[ef][<|endoftext|>]",
        "║",
        "3 places of padding",
    ]
    assert printed(Console(color_system=None), width=10).splitlines()[-1] == "1 place of padding"


def test_with_colors_what_carries_loss_is_blue_and_the_end_orange() -> None:
    shown = printed(Console(force_terminal=True, color_system="truecolor", width=100))
    blue, orange = "48;2;86;180;233m", "48;2;230;159;0m"
    row = shown[shown.index("row 1") :]
    assert re.findall(rf"{re.escape(blue)}([^\x1b]*)", row) == ["c", "e", "f"]
    assert re.findall(rf"{re.escape(orange)}([^\x1b]*)", row) == ["<|endoftext|>"] * 2
    assert "[c]" not in row
