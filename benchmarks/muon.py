"""How many steps Muon needs for the validation loss that AdamW ends with.

    python -m benchmarks.muon INPUT.TXT

INPUT.TXT is tinyshakespeare (1,115,394 characters). AdamW takes the 2,000 steps of nanoGPT's published CPU
configuration, as experiment=shakespeare_char_cpu has it; Muon half of them, on the same batches. The learning rates of
both fall to zero over their own length, and the loss is the mean over the whole validation part.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import report

_ROOT = Path(__file__).parent.parent
_EVERY = 50
"""Steps between two validations of Muon's run."""


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.muon INPUT.TXT, with tinyshakespeare's file")
    adamw = _validation_losses("shakespeare_char_cpu")
    muon = _validation_losses("shakespeare_muon_cpu", f"trainer.val_check_interval={_EVERY}")
    steps, target = max(adamw.items())
    reached = min((step for step, loss in muon.items() if loss <= target), default=float("inf"))
    report(
        "muon",
        {
            f"AdamW: validation loss after {steps:,} steps": round(target, 4),
            f"Muon: validation loss after {max(muon):,} steps": round(muon[max(muon)], 4),
            "Muon: steps to AdamW's loss": reached,
            "Muon's steps over AdamW's": round(reached / steps, 4),
        },
    )


def _validation_losses(experiment: str, *settings: str) -> dict[int, float]:
    """Of a run, by step."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"data.path={Path(sys.argv[1]).resolve()}", f"runs_dir={folder}", "callbacks.samples=null"]
        command = [sys.executable, "train.py", f"experiment={experiment}", "trainer=cpu", *places, *settings]
        subprocess.run(command, cwd=_ROOT, check=True)
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        with metrics.open() as file:
            return {int(row["step"]): float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]}


if __name__ == "__main__":
    main()
