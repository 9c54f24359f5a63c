"""Folders of runs, and the lookup of their checkpoints."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError

CONFIG = "config.yaml"
LOSS_PICTURE = "loss.png"
LOG = "train.log"


def checkpoint_to_resume(resume: str, run_dir: Path) -> Path | None:
    """Find the checkpoint to resume a run from; None for a new run.

    Args:
        resume: `never`; `auto` for the latest run of the same name, if there is one; `must` for the latest run of the
            same name, which is required; `here` for the run in `run_dir` itself, if there is one; otherwise the folder
            of a run or a checkpoint.
        run_dir: folder of a new run; its sibling folders are runs of the same name.

    Raises:
        UserError: if a required run does not exist.
    """
    if resume == "never":
        return None
    if resume == "here":
        return folder.newest(run_dir)
    if resume not in ("auto", "must"):
        path = Path(resume)
        if not path.exists():
            raise UserError(f"resume: there is no run or checkpoint {path}; name one, or say auto, must or never")
        found = folder.newest(path) if path.is_dir() else path
        if found is None:
            raise UserError(f"resume: {_without_checkpoint(path, 'resume')}")
        return found
    latest = max(_newest_of_each_run(run_dir.parent), key=_age, default=None)
    if resume == "must" and latest is None:
        raise UserError(
            f"resume=must: no run in {run_dir.parent} has a checkpoint; "
            "name one with resume=PATH, or start a new run with resume=never"
        )
    return latest


def make_folder(wanted: Path, may_be_there: bool = False) -> Path:
    """Create the folder of a run; if it exists already, the first unused of wanted-1, wanted-2, ….

    Args:
        wanted: folder to create.
        may_be_there: whether to use an existing folder.

    Raises:
        UserError: if the folder cannot be created.
    """
    remedy = "set run_dir or runs_dir to a folder of yours"
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: the folder {wanted.parent} cannot be made: {error.strerror}; {remedy}") from None
    if may_be_there and wanted.is_dir():
        return wanted
    for candidate in itertools.chain([wanted], (wanted.with_name(f"{wanted.name}-{i}") for i in itertools.count(1))):
        try:
            candidate.mkdir()
        except FileExistsError:
            if not candidate.is_dir():
                raise UserError(f"run_dir: {candidate} is there already and is no folder; {remedy}") from None
            continue
        except OSError as error:
            raise UserError(f"run_dir: the folder {candidate} cannot be made: {error.strerror}; {remedy}") from None
        return candidate
    raise AssertionError("the chain is endless")


def remove_folder(run_dir: Path) -> None:
    """Remove the folder of a run, and those above it that `make_folder` may have made, if they are empty."""
    shutil.rmtree(run_dir, ignore_errors=True)
    with contextlib.suppress(OSError):
        run_dir.parent.rmdir()
        run_dir.parent.parent.rmdir()


def find_checkpoint(wanted: str, runs_dir: Path, key: str = "checkpoint") -> Path:
    """Find a checkpoint by its name.

    Args:
        wanted: `latest` for the run with the newest checkpoint; the folder of a run, for its best checkpoint; or a
            file.
        runs_dir: folder of all runs, for `latest`.
        key: name of the setting, for messages.

    Raises:
        UserError: if there is no such checkpoint.
    """
    path = Path(wanted).expanduser()
    if wanted == "latest":
        latest = _latest(runs_dir)
        if latest is None:
            raise UserError(
                f"there is no run with a checkpoint in {runs_dir.absolute()}; "
                f"train one with python train.py, or name one with {key}=PATH"
            )
        path = latest
    if not path.is_dir():
        return path
    found = folder.best(path)
    if found is None:
        raise UserError(f"{key}: {_without_checkpoint(path, key)}")
    return found


def _latest(runs_dir: Path) -> Path | None:
    """Return the folder of the run with the newest checkpoint."""
    runs = {run: found for run in _folders_with_checkpoints(runs_dir) if (found := folder.newest(run))}
    return max(runs, key=lambda run: _age(runs[run]), default=None)


def _without_checkpoint(path: Path, key: str) -> str:
    """Return the error message for a path without a checkpoint."""
    newest = _latest(path)
    if newest is None:
        return f"the folder {path} holds no checkpoint; name a run's folder, or a checkpoint file"
    return f"the folder {path} holds runs and is none itself; name one of them, the newest is {key}={newest}"


def _newest_of_each_run(named: Path) -> Iterator[Path]:
    return (found for run in named.glob("*") if (found := folder.newest(run)))


def _folders_with_checkpoints(runs_dir: Path) -> Iterator[Path]:
    return (checkpoints.parent for checkpoints in runs_dir.rglob(folder.FOLDER))


def _age(file: Path) -> float:
    return file.stat().st_mtime
