"""The folder of a sweep, which the same command finds again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from gpt2_lightning.atomic import write_text

FILE = "sweep.json"


def find_or_name(new: Path, digest: str) -> Path:
    """The newest folder beside a new one that holds the same sweep; a free name where there is none.

    Args:
        new: the name wanted; another sweep may have begun in the same second.
        digest: of the settings of all runs.
    """
    same = [file.parent for file in new.parent.glob(f"*/{FILE}") if digest_in(file.parent) == digest]
    if same:
        return max(same, key=lambda folder: (folder / FILE).stat().st_mtime)
    names = itertools.chain([new], (new.with_name(f"{new.name}-{number}") for number in itertools.count(1)))
    return next(folder for folder in names if not folder.exists())


def sign(folder: Path, digest: str, command: str) -> None:
    """Write down whose folder this is."""
    write_text(folder / FILE, json.dumps({"digest": digest, "command": command}, indent=2, ensure_ascii=False) + "\n")


def digest_in(folder: Path) -> str | None:
    """The digest that a folder was signed with; None where it was not."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return found.get("digest") if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None
