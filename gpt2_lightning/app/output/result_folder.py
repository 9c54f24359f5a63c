"""The folder that a verb of inspection writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops
from gpt2_lightning.atomic_replace import recover, replacing
from gpt2_lightning.errors import UserError


class Result(Protocol):
    """What a verb found."""

    def print_summary(self) -> None:
        """Print the most of it."""

    def write(self, target: Path, with_plots: bool) -> None:
        """Write all of it into a folder."""


def free_folder(output: str, overwrite: bool, ours: re.Pattern[str]) -> Path:
    """Check, before any work, that a folder may be written.

    Args:
        output: the folder.
        overwrite: whether one that the verb wrote is replaced.
        ours: names that the verb gives to its files.

    Returns:
        The folder as an absolute path.

    Raises:
        UserError: if it may not.
    """
    path = Path(output).expanduser().resolve()
    recover(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise UserError(f"output: {display_path(path)} is a file; name a folder")
    if not overwrite:
        raise UserError(f"output: {display_path(path)} exists; name another, or add overwrite=true to replace it")
    if strangers := sorted(file.name for file in path.iterdir() if not ours.fullmatch(file.name)):
        raise UserError(
            f"output: {display_path(path)} holds {', '.join(strangers[:5])}, which this verb did not write, so it is "
            "not replaced; name another folder"
        )
    return path


def leave(result: Result, output: Path, pictures: bool) -> None:
    """Print what was found, write it into a folder, and list its files."""
    with until_the_reader_stops():
        result.print_summary()
    with replacing(output, "output") as temporary:
        temporary.mkdir(parents=True)
        result.write(temporary, pictures)
    with until_the_reader_stops():
        _list_files(output)


def _list_files(output: Path) -> None:
    """Print the folder's files and their sizes."""
    print(f"wrote {display_path(output)}")
    for file in sorted(output.iterdir()):
        kilobytes = file.stat().st_size / 1000
        print(f"  {file.name:28} {kilobytes:>9,.{0 if kilobytes >= 10 else 1}f} kB")
