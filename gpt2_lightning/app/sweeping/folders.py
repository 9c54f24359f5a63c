"""Sweep folders, identified by a digest of the settings, so that the same command resumes the same sweep."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from gpt2_lightning.atomic import write_text

FILE = "sweep.json"


def find_or_name(new: Path, digest: str) -> Path:
    """Return the newest existing folder of the same sweep, or an unused name if there is none.

    Args:
        new: preferred path of a new folder, whose siblings are searched; a number is appended if another sweep that
            started in the same second has taken the name.
        digest: digest of the settings of all runs.
    """
    same = [file.parent for file in new.parent.glob(f"*/{FILE}") if digest_in(file.parent) == digest]
    if same:
        return max(same, key=lambda folder: (folder / FILE).stat().st_mtime)
    names = itertools.chain([new], (new.with_name(f"{new.name}-{number}") for number in itertools.count(1)))
    return next(folder for folder in names if not folder.exists())


def sign(folder: Path, digest: str, command: str) -> None:
    """Write the digest and the command of a sweep into its folder.

    Args:
        folder: folder of the sweep.
        digest: digest of the settings of all runs.
        command: command line of the sweep.
    """
    write_text(folder / FILE, json.dumps({"digest": digest, "command": command}, indent=2, ensure_ascii=False) + "\n")


def digest_in(folder: Path) -> str | None:
    """Return the digest in a folder, or None if it has none that can be read."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return found.get("digest") if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None
