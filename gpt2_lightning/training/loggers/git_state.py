"""State of the git repository at the start of a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 10


def git_state(folder: Path) -> dict[str, str | bool] | None:
    """Return the commit of a folder's repository, and whether tracked files differ from it.

    Args:
        folder: the working folder.

    Returns:
        `commit` and `dirty`; None without a repository, a commit or git.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout.strip()
