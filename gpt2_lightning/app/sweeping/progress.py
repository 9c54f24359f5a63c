"""Progress of a sweep: the number of a run among all, and the time that is left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from statistics import fmean

from gpt2_lightning.app.sweeping.status import ENDED, FILE, Status


def progress(run: Path, total: int | None = None) -> str:
    """Return the place of a run that starts now, such as `3 of 8, about 0:12:30 left`.

    Args:
        run: folder of the run, beside those of the other runs.
        total: number of runs; None if each has a status already.
    """
    files = [file for file in sorted(run.parent.glob(f"*/{FILE}")) if file.parent != run]
    others = [status for file in files if (status := Status.read(file.parent)) is not None]
    total = total or len(others) + 1
    over = sum(status.state in (*ENDED, "failed") for status in others)
    at_once = 1 + sum(status.state == "running" for status in others)
    place = f"{over + at_once} of {total}"
    seconds = [status.seconds for status in others if status.state in ENDED]
    if not seconds:
        return place
    return f"{place}, about {timedelta(seconds=round(fmean(seconds) * (total - over) / at_once))} left"
