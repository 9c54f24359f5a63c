"""Which code a run was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 10


def git_state(folder: Path) -> dict[str, str | bool] | None:
    """The commit of a folder's repository, and whether tracked files differ from it.

    Args:
        folder: the working folder.

    Returns:
        `commit` and `dirty`; None where there is no repository, no commit or no git.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout.strip()
