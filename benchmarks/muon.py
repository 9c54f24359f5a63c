"""Steps that Muon needs to reach the final validation loss of AdamW.

    python -m benchmarks.muon INPUT.TXT

INPUT.TXT is tinyshakespeare (1,115,394 characters). AdamW runs for the 2,000 steps of nanoGPT's published CPU
configuration, experiment=shakespeare_char_cpu; Muon runs for half of them, on the same batches. Each learning rate
decays to zero over the length of its run, and the loss is the mean over the whole validation split.
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
    """Return the validation losses of a run by step."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"data.path={Path(sys.argv[1]).resolve()}", f"runs_dir={folder}", "callbacks.samples=null"]
        command = [sys.executable, "train.py", f"experiment={experiment}", "trainer=cpu", *places, *settings]
        subprocess.run(command, cwd=_ROOT, check=True)
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        with metrics.open() as file:
            return {int(row["step"]): float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]}


if __name__ == "__main__":
    main()
