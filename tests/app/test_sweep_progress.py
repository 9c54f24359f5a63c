"""The line that a run of a sweep starts with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2_lightning.app.sweeping.progress import progress
from gpt2_lightning.app.sweeping.status import Status


@pytest.mark.parametrize(
    ("others", "total", "expected"),
    [
        ([("waiting", 0), ("waiting", 0), ("waiting", 0)], None, "1 of 4"),
        ([("done", 600), ("waiting", 0), ("waiting", 0)], None, "2 of 4, about 0:30:00 left"),
        ([("done", 100), ("failed", 1), ("pruned", 50)], 20, "4 of 20, about 0:21:15 left"),
        ([("done", 600), ("running", 0), ("waiting", 0)], None, "3 of 4, about 0:15:00 left"),
    ],
)
def test_a_run_of_a_sweep_names_its_place_and_the_time_left(
    tmp_path: Path, others: list[tuple[str, float]], total: int | None, expected: str
) -> None:
    """The mean time of complete runs, for those that are not over, divided by those at once."""
    for number, (state, seconds) in enumerate(others):
        Status({}, "digest", state=state, seconds=seconds).write(tmp_path / str(number))  # type: ignore[arg-type]
    Status({}, "digest").write(tmp_path / "own")
    assert progress(tmp_path / "own", total) == expected
