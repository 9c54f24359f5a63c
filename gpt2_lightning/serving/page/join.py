"""The page as one HTML file, and the policy under which browsers run it."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import NamedTuple

from gpt2_lightning.html_pages.join import join_page
from gpt2_lightning.inspection.colormaps import sequential

_FOLDER = resources.files("gpt2_lightning.serving") / "page"
_SCRIPTS = (
    "api",
    "tree",
    "state",
    "text",
    "alternatives",
    "attention",
    "distribution",
    "pane",
    "classify",
    "copy",
    "main",
)
_RANGES = 6
"""Ranges of probabilities with a color: the `RANGES` of text.js."""
_STRONGEST = 88
"""Index of the color below 1 %, of 256: letters remain readable on it."""


class Page(NamedTuple):
    """The page of the server."""

    html: str
    policy: str
    """Value of the header `Content-Security-Policy`: the page's own script and style run, and it connects to the server
    that it came from, and to nothing else."""


@functools.cache
def page() -> Page:
    """Join the page."""
    html = join_page(_FOLDER, _SCRIPTS, {"colors": _colors()})
    sources = {
        "default-src": "'none'",
        "script-src": _hashes("script", html),
        "style-src": _hashes("style", html),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(html, "; ".join(f"{name} {value}" for name, value in sources.items()))


def _colors() -> str:
    """Backgrounds of the ranges of probabilities, from `.p0` for the least likely, in both themes."""
    rules = []
    for theme, dark in (("light", False), ("dark", True)):
        for i in range(_RANGES):
            red, green, blue = sequential(dark)[_STRONGEST * (_RANGES - 1 - i) // (_RANGES - 1)]
            background = f"#{red:02x}{green:02x}{blue:02x}" if i < _RANGES - 1 else "transparent"
            rules.append(f':where(:root[data-theme="{theme}"]) .p{i} {{ background: {background}; }}')
    return "\n".join(rules)


def _hashes(tag: str, html: str) -> str:
    """Hashes of the contents of all elements of a kind."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
