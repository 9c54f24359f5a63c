"""Where runs live, which is the latest, and which checkpoint a user means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError

CONFIG = "config.yaml"
METRICS = "metrics.csv"
LOSS_PICTURE = "loss.png"
SAMPLES = "samples.md"
LOG = "train.log"


def checkpoint_to_resume(resume: str, run_dir: Path, max_steps: int) -> Path | None:
    """The checkpoint that training goes on from; none for a new run.

    Args:
        resume: `never`; `auto` for the latest run of the same name, unless it has reached max_steps; `must` for the
            latest run of the same name; anything else is a run's folder or a checkpoint.
        run_dir: the folder of a new run; those beside it have the same name.
        max_steps: the limit of the run.

    Raises:
        UserError: if a run was asked for and there is none.
    """
    if resume == "never":
        return None
    if resume not in ("auto", "must"):
        path = Path(resume).expanduser()
        found = folder.newest(path) if path.is_dir() else path
        if found is None:
            raise UserError(
                f"resume: {path} holds no {folder.FOLDER}/{folder.step_name(0)} or later; name a run or a checkpoint"
            )
        return found
    latest = max(_newest_of_each_run(run_dir.parent), key=_age, default=None)
    if resume == "must" and latest is None:
        raise UserError(
            f"resume=must: no run in {run_dir.parent} has a checkpoint; "
            "name one with resume=PATH, or start a new run with resume=never"
        )
    if resume == "auto" and latest is not None and (folder.step_of(latest) or 0) >= max_steps:
        return None
    return latest


def make_folder(wanted: Path) -> Path:
    """Create a run's folder; where it holds something already, the first free of wanted-1, wanted-2, ….

    Raises:
        UserError: if it cannot be created.
    """
    for candidate in itertools.chain([wanted], (wanted.with_name(f"{wanted.name}-{i}") for i in itertools.count(1))):
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            if candidate.is_dir() and not any(candidate.iterdir()):
                return candidate
            continue
        except OSError as error:
            raise UserError(
                f"run_dir: the folder {candidate} cannot be written: {error.strerror}; "
                "set run_dir or runs_dir to a folder of yours"
            ) from None
        return candidate
    raise AssertionError("the chain is endless")


def find_checkpoint(wanted: str, runs_dir: Path) -> Path:
    """The checkpoint that a user means.

    Args:
        wanted: `latest` for the run that saved last; a run's folder, of which the best checkpoint is taken; or a file.
        runs_dir: where `latest` looks.

    Raises:
        UserError: if there is none.
    """
    if wanted == "latest":
        saved = [found for run in _folders_with_checkpoints(runs_dir) if (found := folder.newest(run))]
        if not saved:
            raise UserError(
                f"there is no run with a checkpoint in {runs_dir.absolute()}; "
                "train one with python train.py, or name one with checkpoint=PATH"
            )
        path = folder.run_of(max(saved, key=_age))
    else:
        path = Path(wanted).expanduser()
    if not path.is_dir():
        return path
    found = folder.best(path)
    if found is None:
        raise UserError(f"checkpoint: the folder {path} holds no checkpoint; name a run's folder, or a checkpoint file")
    return found


def _newest_of_each_run(named: Path) -> Iterator[Path]:
    return (found for run in named.glob("*") if (found := folder.newest(run)))


def _folders_with_checkpoints(runs_dir: Path) -> Iterator[Path]:
    return (checkpoints.parent for checkpoints in runs_dir.rglob(folder.FOLDER))


def _age(file: Path) -> float:
    return file.stat().st_mtime
