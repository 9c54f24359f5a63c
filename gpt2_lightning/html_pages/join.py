"""Joining the files of an HTML page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

_SHARED = resources.files("gpt2_lightning.html_pages")


def join_page(folder: Traversable, scripts: Sequence[str], parts: Mapping[str, str]) -> str:
    """Join the files of a page.

    Args:
        folder: with `page.html`, in which `{{name}}` is a part, `style.css`, and the scripts.
        scripts: names of the scripts without `.js`, in the order in which they run.
        parts: HTML by the names of parts; `style` and `script` are those of the files.
    """
    read = {
        "style": _text(_SHARED, "palette.css") + _text(folder, "style.css"),
        "script": "\n".join([_text(_SHARED, "elements.js"), *(_text(folder, f"{name}.js") for name in scripts)]),
    }
    return fill(_text(folder, "page.html"), {**parts, **read})


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Replace each `{{name}}` of a template; braces within the parts stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], template)


def embedded_json(data: Any) -> str:
    """JSON that is safe within a `<script>` element, which no `<` in it can end."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _text(folder: Traversable, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")
