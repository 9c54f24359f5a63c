"""Output folders of the inspection verbs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops
from gpt2_lightning.atomic_replace import recover, replacing
from gpt2_lightning.errors import UserError


class Result(Protocol):
    """Result of an inspection verb."""

    def print_summary(self) -> None:
        """Print a summary."""

    def write(self, target: Path, with_plots: bool) -> None:
        """Write the complete result into a folder.

        Args:
            target: an existing, empty folder.
            with_plots: whether to write plots.
        """


def free_folder(output: str, ours: re.Pattern[str]) -> Path:
    """Check, before any computation, that an output folder can be created or replaced.

    Args:
        output: the folder.
        ours: pattern of the verb's output file names; a folder with other files is never replaced.

    Returns:
        The folder as an absolute path.

    Raises:
        UserError: if it cannot.
    """
    path = Path(output).expanduser().resolve()
    recover(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise UserError(f"output: {display_path(path)} is a file; name a folder")
    if strangers := sorted(file.name for file in path.iterdir() if not ours.fullmatch(file.name)):
        raise UserError(
            f"output: {display_path(path)} holds {', '.join(strangers[:5])}, which this verb did not write, so it is "
            "not replaced; name another folder"
        )
    return path


def leave(result: Result, output: Path, pictures: bool) -> None:
    """Print the summary of a result, write its folder, and list the files.

    Args:
        result: the result.
        output: the folder, which is replaced atomically.
        pictures: whether to write plots.
    """
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
