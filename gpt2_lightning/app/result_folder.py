"""The folder that a verb of inspection writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpt2_lightning.app import runs
from gpt2_lightning.errors import UserError


def require_free(output: Path, overwrite: bool, is_ours: Callable[[str], bool]) -> None:
    """Check, before any work, that a folder may be written.

    Args:
        output: the folder.
        overwrite: whether one that the verb wrote is replaced.
        is_ours: whether the verb may have written a file of this name.

    Raises:
        UserError: if it may not.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"output: {runs.shown(output)} is a file; name a folder")
    if not overwrite:
        raise UserError(f"output: {runs.shown(output)} exists; name another, or add overwrite=true to replace it")
    if strangers := sorted(file.name for file in output.iterdir() if not is_ours(file.name)):
        raise UserError(
            f"output: {runs.shown(output)} holds {', '.join(strangers[:5])}, which this verb did not write, so it is "
            "not replaced; name another folder"
        )


def list_files(output: Path) -> None:
    """Print the folder's files and their sizes."""
    print(f"wrote {runs.shown(output)}")
    for file in sorted(output.iterdir()):
        kilobytes = file.stat().st_size / 1000
        print(f"  {file.name:28} {kilobytes:>9,.{0 if kilobytes >= 10 else 1}f} kB")
