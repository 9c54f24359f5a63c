"""Validation loss with nanoGPT's published CPU configuration, relative to nanoGPT's published loss.

    python -m benchmarks.nanogpt_loss INPUT.TXT

INPUT.TXT is tinyshakespeare (1,115,394 characters), which nanoGPT downloads from karpathy/char-rnn. Its README states
1.88 for the configuration, estimated on random windows; ours is the mean over the whole validation split.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import report

_ROOT = Path(__file__).parent.parent
_NANOGPT = 1.88


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.nanogpt_loss INPUT.TXT, with tinyshakespeare's file")
    text = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        settings = ["experiment=shakespeare_char_cpu", f"data.path={text}", f"runs_dir={folder}"]
        subprocess.run([sys.executable, "train.py", *settings], cwd=_ROOT, check=True)
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        with metrics.open() as file:
            losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    figures = {
        "validation loss": round(losses[-1], 4),
        "validation loss over nanoGPT's": round(losses[-1] / _NANOGPT, 3),
    }
    report("nanogpt_loss", figures)


if __name__ == "__main__":
    main()
