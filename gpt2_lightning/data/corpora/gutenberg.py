"""Books of Project Gutenberg: addresses of their texts, and the text without header and license."""

from __future__ import annotations

import re

from gpt2_lightning.errors import UserError

_BYTE_ORDER_MARK = "\ufeff"
_FLAGS = re.IGNORECASE | re.MULTILINE

# The title may wrap: the marker then ends at the closing stars, in the same paragraph.
_START = re.compile(
    r"^[ \t]*\*{3}[ \t]*START OF (?:THE|THIS) (?:COPYRIGHTED )?PROJECT GUTENBERG"
    r"(?:[^*\n]*(?:\n[^*\n]+){0,3}\*{3}[^\n]*|[^\n]*)"
    r"|^[ \t]*\*+[ \t]*END[ \t*]*(?:OF )?THE SMALL PRINT[^\n]*",
    _FLAGS,
)
_END = re.compile(r"^[ \t]*(?:\*{3}[ \t]*)?END OF (?:THE |THIS )?(?:COPYRIGHTED )?PROJECT GUTENBERG", _FLAGS)

# Credits of the transcribers, in the first paragraphs after the marker.
_CREDITS = re.compile(
    r"\s*(?:"
    r"(?:Produced by|E-?text prepared by|This e-?(?:text|book) was (?:\w+ )?(?:produced|prepared|transcribed|scanned)"
    r"|Transcribed from the \d{4})[^\n]*(?:\n[^\n]+)*"
    r"|\[Transcriber['’]s notes?\b[^\]]*\]"
    r")[ \t]*(?=\n|$)",
    re.IGNORECASE,
)


def urls(number: int) -> list[str]:
    """Return the addresses of the plain UTF-8 text of an ebook, mirrors first.

    Project Gutenberg reserves its site for human users and asks programs to use the mirrors
    (https://www.gutenberg.org/policy/robot_access.html). Of those in https://www.gutenberg.org/MIRRORS.ALL, these
    provide the generated files, which are UTF-8 for every book: `cache/epub/N/pgN.txt` of the site.
    """
    folders = (
        "https://gutenberg.pglaf.org/cache/epub",
        "https://mirror.cs.odu.edu/gutenberg-epub",
        "https://www.gutenberg.org/cache/epub",
    )
    return [f"{folder}/{number}/pg{number}.txt" for folder in folders]


def strip_boilerplate(text: str) -> str:
    """Remove the header, the license and the transcribers' credits from an ebook.

    Supports the markers of all years: `*** START OF THE PROJECT GUTENBERG EBOOK …`, `***START OF THIS PROJECT …`, and
    `*END*THE SMALL PRINT` of the old etexts; `*** END OF …` and a bare `End of Project Gutenberg's …`.

    Raises:
        UserError: if the start or the end is not marked, since the text is then truncated or not an ebook.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
    first = _START.search(text)
    end = _END.search(text, first.end()) if first else None
    if first is None or end is None:
        marker = "*** END OF" if first else "*** START OF"
        raise UserError(
            f"the text has no line “{marker} THE PROJECT GUTENBERG EBOOK”: it is cut off, or no book of "
            f"Project Gutenberg; it begins with {text[:60]!r}; delete the file and download it again"
        )
    *_, last = _START.finditer(text, 0, end.start())  # a newer header may enclose an old one
    book = text[last.end() : end.start()]
    while made_by := _CREDITS.match(book):
        book = book[made_by.end() :]
    return book.strip()
