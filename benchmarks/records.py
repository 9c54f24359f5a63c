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
from collections.abc import Collection, Sequence
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
_RECORD = {"experiment": "shakespeare_record_cpu"}
_LADDER = {
    "AdamW as in nanoGPT": {
        "experiment": "shakespeare_char_cpu",
        "trainer.max_steps": "400",
        "trainer.val_check_interval": "400",
        "optimizer.lr": "1e-3",
        "schedule.final_fraction": "0.1",
    },
    "rate of 4e-3": {"optimizer.lr": "4e-3"},
    "decay to zero": {"schedule.final_fraction": "0"},
    "linear decay": {"schedule": "linear"},
    "warm-up of 20 steps": {"schedule.warmup_steps": "20"},
    "Muon, rate of 0.02": {"optimizer": "muon"},
    "rate of 0.06 for Muon": {"optimizer.muon_lr": "0.06"},
    "rate of 16e-3 for AdamW": {"optimizer.lr": "16e-3"},
    "momentum of 0.85": {"optimizer.momentum": "0.85"},
    "NorMuon (the record)": {"optimizer": "normuon"},
}
"""Rows of which each adds its settings to those of the rows above."""
_VARIANTS = {
    "polynomials of the Polar Express": {"optimizer.ns_coefficients": "polar_express"},
    "these, and four iterations": {"optimizer.ns_coefficients": "polar_express", "optimizer.ns_steps": "4"},
    "three iterations": {"optimizer.ns_steps": "3"},
    "rate of 24e-3 for AdamW": {"optimizer.lr": "24e-3"},
    "second moments of AdamW over 20 steps": {"optimizer.betas": "[0.9,0.95]"},
    "momentum of 0.9": {"optimizer.momentum": "0.9"},
    "no weight decay": {"optimizer.weight_decay": "0", "optimizer.muon_weight_decay": "0"},
    "no clipping": {"trainer.gradient_clip_val": "null"},
    "mean weights of the last tenth": {"callbacks": "average", "callbacks.average.last_fraction": "0.1"},
    "moving average of weights": {"callbacks": "ema", "callbacks.ema.decay": "0.95"},
    "8 windows a step": {"batch_size": "8", "trainer.max_steps": "600"},
    "16 windows a step": {"batch_size": "16", "trainer.max_steps": "300"},
}
"""Rows of which each adds its settings to those of the record."""
_LONG = {
    "AdamW as in nanoGPT, 2,000 steps": {
        **_LADDER["AdamW as in nanoGPT"],
        "trainer.max_steps": "2000",
        "trainer.val_check_interval": "2000",
    },
    "AdamW, rate of 4e-3 that decays to zero, 2,000 steps": {"experiment": "shakespeare_char_cpu"},
    "the record's settings, 2,000 steps": {**_RECORD, "trainer.max_steps": "2000"},
}
"""Rows with all their settings."""


def rows() -> dict[str, list[str]]:
    """Return the settings of each row."""
    found: dict[str, dict[str, str]] = {}
    settings: dict[str, str] = {}
    for name, change in _LADDER.items():
        settings = {**settings, **change}
        found[name] = settings
    found |= {f"record, {name}": {**_RECORD, **change} for name, change in _VARIANTS.items()}
    return {name: [f"{key}={value}" for key, value in row.items()] for name, row in {**found, **_LONG}.items()}


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


def _climb(saved: dict[str, Any], figures: dict[str, Any], text: Path) -> None:
    """Train all rows with the first seed, then with the second one, and so on, except runs that are saved."""
    for seed in _SEEDS:
        for name, settings in rows().items():
            row = saved.get(name, {})
            if row.get("settings") != " ".join(settings):
                row = saved[name] = {"settings": " ".join(settings), "losses": {}}
            if seed not in row["losses"]:
                row["losses"][seed], _ = _train(text, [*settings, f"seed={seed}", "trainer.threads=1"])
                row["mean"], row["interval"] = _estimate(row["losses"].values())
                results.save("records", figures, results.FOLDER)
            print(f"{name}, seed {seed}: {row['losses'][seed]}", flush=True)
    for name in rows():
        row = saved[name]
        print(f"| {name} | {row['mean']:.3f} ± {row['interval']:.3f} | `{row['settings']}` |")


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
                loss, seconds = _train(text, ["experiment=shakespeare_record_cpu", f"seed={seed}"])
                pairs[seed] = {**theirs, "seconds": seconds, "loss": loss}
                ratios = [pair["seconds"] / pair["nanoGPT's seconds"] for pair in pairs.values()]
                figures["seconds over nanoGPT's, median"] = round(statistics.median(ratios), 3)
                figures["highest loss"] = max(pair["loss"] for pair in pairs.values())
                results.save("records", figures, results.FOLDER)
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


def _estimate(losses: Collection[float]) -> tuple[float, float]:
    """Return the mean, and half of its 95 % interval; 0 for a single loss."""
    values = list(losses)
    half = _STUDENT * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return round(statistics.mean(values), 4), round(half, 4)


if __name__ == "__main__":
    main()
