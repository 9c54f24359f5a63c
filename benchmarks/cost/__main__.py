"""How the time and memory of training, generation and `prepare` grow with sizes, beside what theory predicts.

    python -m benchmarks.cost [SERIES …]

Without arguments all that the file of results lacks is measured: training steps over `context`, `width`, `depth`,
`batch` and `vocabulary`; `generation` over its length; `prepare` over the size of a corpus. A series that is named is
measured again. All take about six minutes. Each point has a process of its own, since memory is its peak resident set
size minus that before the model is made. The time of a training step is the median of five by the Trainer. Afterwards
`python -m benchmarks.cost.plot` draws the plots of docs/performance.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cost.points import SERIES
from benchmarks.results import FOLDER, save
from benchmarks.trainer_overhead import stories
from gpt2_lightning.tokenizers.saved import write_tokenizer

_NAME = "cost"


def main() -> None:
    named = sys.argv[1:]
    if unknown := set(named) - SERIES.keys():
        raise SystemExit(f"usage: python -m benchmarks.cost [{' | '.join(SERIES)}]; there is no {', '.join(unknown)}")
    file = FOLDER / f"{_NAME}.json"
    found: dict[str, list[Any]] = json.loads(file.read_text())["figures"] if file.exists() else {}
    found = {series: [] if series in named else found.get(series, []) for series in SERIES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer, _ = stories(folder)
        write_tokenizer(tokenizer, folder / "tokenizer.json")
        for series in named or SERIES:
            for value in SERIES[series][len(found[series]) :]:
                found[series].append(_measured(series, value, folder))
                save(_NAME, found)


def _measured(series: str, value: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.cost.measure", series, str(value), str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    point: dict[str, float] = {"value": value, **json.loads(lines[-1])}
    print(f"{series} {value}: {point['seconds']:.4g} s, {point['bytes'] / 1e6:.0f} MB", flush=True)
    return point


if __name__ == "__main__":
    main()
