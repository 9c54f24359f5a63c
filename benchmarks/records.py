"""Loss of a strict GPT-2 on tinyshakespeare, one change a row, and whole processes side by side with nanoGPT's.

    python -m benchmarks.records INPUT.TXT
    NANOGPT=FOLDER python -m benchmarks.records INPUT.TXT

INPUT.TXT is tinyshakespeare (1,115,394 characters), FOLDER a copy of nanoGPT's repository. The first command trains
every row of the ladder with every seed, each in a process of its own with one thread. The loss is the mean over the
whole validation split, in windows of 64 tokens; intervals are 95 %, by Student's t-distribution over the seeds.

The second one runs nanoGPT's train.py for the 2,000 steps of its published CPU configuration, and then
experiment=shakespeare_record_cpu, once for each seed, and compares the seconds of the whole processes. nanoGPT's tokens
are prepared beforehand; this package reads the text in every run. nanoGPT estimates its loss on 20 random batches.

Each run is saved as soon as it ends, so that a command that was interrupted continues when it is repeated. Remove
`results/records.json` to start anew.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results

_ROOT = Path(__file__).parent.parent
_SEEDS = ("1", "2", "3", "4", "5")
_STUDENT = 2.776
"""0.975 quantile of Student's t-distribution with four degrees of freedom."""
_NANOGPT = (
    *("config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1"),
    *("--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128"),
    *("--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
)
"""The configuration for a CPU in nanoGPT's README."""
RECORD = ("experiment=shakespeare_record_cpu",)
_ADAMW = ("experiment=shakespeare_char_cpu", "trainer.max_steps=400", "trainer.val_check_interval=400")
LADDER = {
    "AdamW as in nanoGPT": (*_ADAMW, "optimizer.lr=1e-3", "schedule.final_fraction=0.1"),
}
"""Settings of each row."""


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.records INPUT.TXT, with tinyshakespeare's file")
    text = Path(sys.argv[1]).resolve()
    saved = results.FOLDER / "records.json"
    figures: dict[str, Any] = json.loads(saved.read_text())["figures"] if saved.exists() else {}
    if "NANOGPT" in os.environ:
        _side_by_side(figures.setdefault("side by side", {}), figures, Path(os.environ["NANOGPT"]), text)
    else:
        _climb(figures.setdefault("ladder", {}), figures, text)


def _climb(rows: dict[str, Any], figures: dict[str, Any], text: Path) -> None:
    """Train the rows of the ladder that are not saved yet."""
    for name, settings in LADDER.items():
        row = rows.get(name, {})
        if row.get("settings") != " ".join(settings):
            row = rows[name] = {"settings": " ".join(settings), "losses": {}}
        losses = row["losses"]
        for seed in _SEEDS:
            if seed not in losses:
                losses[seed], _ = _train(text, [*settings, f"seed={seed}", "trainer.threads=1"])
                row["mean"], row["interval"] = _estimate(losses.values())
                results.save("records", figures)
        print(f"{name}: {row['mean']:.4f} ± {row['interval']:.4f}")


def _side_by_side(pairs: dict[str, Any], figures: dict[str, Any], nanogpt: Path, text: Path) -> None:
    """Run nanoGPT and the record in turns, as often as there are seeds."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanogpt"
        shutil.copytree(nanogpt, copy, ignore=shutil.ignore_patterns(".git", "out*"))
        data = copy / "data" / "shakespeare_char"
        shutil.copy(text, data / "input.txt")
        subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, capture_output=True)
        for seed in _SEEDS:
            if seed not in pairs:
                theirs = _nanogpt(copy)
                loss, seconds = _train(text, [*RECORD, f"seed={seed}"])
                pairs[seed] = {**theirs, "seconds": seconds, "loss": loss}
                ratios = [pair["seconds"] / pair["nanoGPT's seconds"] for pair in pairs.values()]
                figures["seconds over nanoGPT's, median"] = round(statistics.median(ratios), 3)
                figures["highest loss"] = max(pair["loss"] for pair in pairs.values())
                results.save("records", figures)
            print(seed, pairs[seed])


def _nanogpt(folder: Path) -> dict[str, float]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "train.py", *_NANOGPT], cwd=folder, capture_output=True, text=True, check=True
    )
    seconds = round(time.perf_counter() - started, 2)
    losses = re.findall(r"^step \d+: train loss [\d.]+, val loss ([\d.]+)", done.stdout, re.MULTILINE)
    return {"nanoGPT's seconds": seconds, "nanoGPT's loss": float(losses[-1])}


def _train(text: Path, settings: Sequence[str]) -> tuple[float, float]:
    """Return the last validation loss of a run of train.py, and the seconds of its process."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["trainer=cpu", f"data.path={text}", f"runs_dir={folder}", "callbacks.samples=null"]
        started = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *settings, *fixed], cwd=_ROOT, check=True, capture_output=True)
        seconds = round(time.perf_counter() - started, 2)
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        with metrics.open() as file:
            losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    return round(losses[-1], 4), seconds


def _estimate(losses: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half of its 95 % interval; 0 for a single loss."""
    values = list(losses)
    half = _STUDENT * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return round(statistics.mean(values), 4), round(half, 4)


if __name__ == "__main__":
    main()
