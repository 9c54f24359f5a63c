"""Time from the start of `python train.py` to the first optimizer step, relative to importing torch and lightning.

    python -m benchmarks.startup

The first step is complete when metrics.csv has its first row. Both programs run in alternation, and the result is the
median.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import report

_ROOT = Path(__file__).parent.parent
_TURNS = 5
_SECONDS_BETWEEN_LOOKS = 0.005


def main() -> None:
    turns = []
    _first_step(), _imports()  # warm-up: files are read into the page cache
    for _ in range(_TURNS):
        turns.append((_imports(), _first_step()))
    ratio = statistics.median(step / imports for imports, step in turns)
    imports, step = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
    print(f"importing torch and lightning {imports:.2f} s, first optimizer step after {step:.2f} s")
    report("startup", {"first optimizer step over importing torch and lightning": round(ratio, 3)})


def _imports() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, lightning"], check=True)
    return time.perf_counter() - started


def _first_step() -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "train.py", f"runs_dir={folder}", "trainer.log_every_n_steps=1"],
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
        )
        while not _has_row(Path(folder)):
            if process.poll() is not None:
                raise SystemExit("error: train.py ended before its first step")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - started
        process.kill()
        process.wait()
    return seconds


def _has_row(runs_dir: Path) -> bool:
    return any(len(file.read_text().splitlines()) > 1 for file in runs_dir.glob("*/*/metrics.csv"))


if __name__ == "__main__":
    main()
