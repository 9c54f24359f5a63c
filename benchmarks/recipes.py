"""Test metrics of a fine-tuning recipe over several seeds: their means, with confidence intervals.

    python -m benchmarks.recipes spam_cpu init_from=RUN data.path=SMSSpamCollection …

Arguments after the name of the recipe are settings of finetune. The seeds are 1, 2 and 3; they determine the order of
the rows, the initialization of the head, and dropout. The splits are the same for all seeds. The 95 % interval is by
Student's t-distribution and covers the variation over seeds only; the uncertainty of a small test split is in the
report.md of each run. Results of other recipes in the file are kept. On shared cores, set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import report

_ROOT = Path(__file__).parent.parent
_KEPT = Path(__file__).parent / "results" / "recipes.json"
_SEEDS = (1, 2, 3)
_STUDENT = 4.303
"""0.975 quantile of Student's t-distribution with two degrees of freedom."""
_FIGURE = re.compile(r"^  (accuracy|response loss|ended by itself) +([\d.]+)(?: %)?(?: before, ([\d.]+))?", re.M)


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit("usage: python -m benchmarks.recipes RECIPE init_from=RUN SETTING=VALUE …")
    recipe, *settings = sys.argv[1:]
    found: dict[str, list[float]] = {}
    for seed in _SEEDS:
        for name, value in _figures(recipe, seed, settings).items():
            found.setdefault(f"{recipe}: {name}", []).append(value)
    figures = json.loads(_KEPT.read_text())["figures"] if _KEPT.exists() else {}
    for name, values in found.items():
        figures[f"{name}, mean of {len(_SEEDS)} seeds"] = round(statistics.mean(values), 4)
        figures[f"{name}, 95 % interval of the mean, +-"] = round(
            _STUDENT * statistics.stdev(values) / len(values) ** 0.5, 4
        )
    report("recipes", figures)


def _figures(recipe: str, seed: int, settings: list[str]) -> dict[str, float]:
    """Return the test metrics that a run prints, and its duration in minutes."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = ["finetune.py", f"experiment={recipe}", f"seed={seed}", f"runs_dir={folder}", *settings]
        done = subprocess.run([sys.executable, *command], cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    minutes = (time.perf_counter() - started) / 60
    print(f"seed {seed}, {minutes:.1f} minutes")
    found = {"minutes": minutes}
    for name, value, after in _FIGURE.findall(done.stdout):
        print(f"  {name}: {value}{f' before, {after} after' if after else ''}")
        if after:
            found[f"{name}, before"] = float(value)
        found[name] = float(after or value)
    return found


if __name__ == "__main__":
    main()
