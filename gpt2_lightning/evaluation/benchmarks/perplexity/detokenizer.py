"""Detokenizer of WikiText: undoes the spaces that its tokenizer put around punctuation."""

from __future__ import annotations

import re

_SPACED = (
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
)
"""Contractions, numbers and punctuation, each with its replacement."""
_ENCLOSED = tuple(
    (re.compile(rf"{opening}\s*([^{closing}]*?)\s*{closing}"), replacement)
    for opening, closing, replacement in (
        (r"\(", r"\)", r"(\1)"),
        (r"\[", r"\]", r"[\1]"),
        ("{", "}", r"{\1}"),
        ('"', '"', r'"\1"'),
        ("'", "'", r"'\1'"),
    )
)
"""Brackets and quotation marks, with spaces inside."""
_REMAINING = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)
"""Headings, degrees, ends of lines, and what is left of contractions."""


def detokenize(text: str) -> str:
    """Return an article of WikiText as it would be written, by the rules of lm-evaluation-harness' task `wikitext`.

    The detokenizers of the GPT-2 paper (section 3.1) are unpublished.
    """
    for spaced, plain in _SPACED:
        text = text.replace(spaced, plain)
    for pattern, replacement in _ENCLOSED:
        text = pattern.sub(replacement, text)
    for spaced, plain in _REMAINING:
        text = text.replace(spaced, plain)
    return text
