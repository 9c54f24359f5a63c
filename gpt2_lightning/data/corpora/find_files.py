"""Resolution of paths and patterns to files, and file types by suffix."""

from __future__ import annotations

import re
from glob import glob
from importlib import resources
from pathlib import Path

from gpt2_lightning.errors import UserError

COMPRESSED = (".gz", ".zst")
ROWS = (".jsonl", ".ndjson")
EMBEDDED = "embedded:"
_TEXT = (".txt", *ROWS)
_FOLDER_NAME = re.compile(r"[\w-]+")


def find(path: str, setting: str) -> list[Path]:
    """Resolve a path to files, sorted by name.

    Args:
        path: a file; a folder, for its `.txt` and `.jsonl` files, also compressed and in subfolders; a pattern such as
            `books/**/*.txt`; or `embedded:NAME`, a folder of this package.
        setting: name of the setting, for messages.

    Raises:
        UserError: if there are no such files.
    """
    if path.startswith(EMBEDDED):
        name = path.removeprefix(EMBEDDED)
        folder = Path(str(resources.files("gpt2_lightning.data") / name))
        if not _FOLDER_NAME.fullmatch(name) or not folder.is_dir():
            raise UserError(f"{setting}: there is no {path} in the package; name a file, or a folder of .txt files")
        return _inside(folder, path, setting)
    place = Path(path).expanduser()
    if place.is_dir():
        return _inside(place, path, setting)
    if place.is_file():
        return [place]
    if any(sign in path for sign in "*?["):
        names = glob(str(place), recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = sorted(file for file in map(Path, names) if file.is_file())
        if not found:
            raise UserError(f"{setting}: no file fits the pattern {place.absolute()}; check it")
        return found
    raise UserError(f"{setting}: there is no file or folder {place.absolute()}; check the path")


def _inside(folder: Path, name: str, setting: str) -> list[Path]:
    endings = tuple(kind + compression for kind in _TEXT for compression in ("", *COMPRESSED))
    files = sorted(f for f in folder.rglob("*") if f.name.endswith(endings) and f.is_file() and f.name[0] != ".")
    if not files:
        raise UserError(
            f"{setting}: the folder {name} holds no .txt or .jsonl files; name a file, such a folder, or a pattern"
        )
    return files


def is_compressed(file: Path) -> bool:
    return file.suffix in COMPRESSED


def holds_rows(file: Path) -> bool:
    """Whether the suffix is that of JSON Lines."""
    return (Path(file.stem) if is_compressed(file) else file).suffix in ROWS
