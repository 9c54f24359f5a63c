"""Time of a training step on the CPU, relative to nanoGPT's where NANOGPT names a folder with its code.

    NANOGPT=DIR python -m benchmarks.training_step INPUT.TXT

INPUT.TXT is tinyshakespeare. Both train in float32 with the same sizes and batch, by their own `train.py`, in turns; a
time is the median of a process's steps, and a ratio the median of the turns. nanoGPT trains without biases and with the
exact GELU, as its configuration says.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import report

_ROOT = Path(__file__).parent.parent
# block_size, n_layer, n_head, n_embd, batch size, steps, steps between two measurements of ours
SIZES = {"char": (64, 4, 4, 128, 12, 80, 5), "char_10m": (256, 6, 6, 384, 4, 16, 2)}
OURS = {
    "AdamW": ["optimizer=adamw"],
    "AdamW, torch's kernels": ["optimizer=adamw", "model.kernels=fused"],
    "Muon": ["optimizer=muon"],
}
TURNS = 3
WARM_UP = 0.25
"""Part of the measurements of a process that is left out."""


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.training_step INPUT.TXT, with tinyshakespeare's file")
    text, nanogpt = Path(sys.argv[1]).resolve(), os.environ.get("NANOGPT")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        theirs = None if nanogpt is None else _prepare(Path(nanogpt), text, Path(folder, "nanogpt"))
        for size in SIZES:
            turns = []
            for turn in range(TURNS):
                seconds = {} if theirs is None else {"nanoGPT": _nanogpt(theirs, size)}
                for name, settings in OURS.items():
                    seconds[name] = _ours(text, size, settings, Path(folder, f"runs-{turn}"))
                turns.append(seconds)
            base = "AdamW" if theirs is None else "nanoGPT"
            for name in turns[0]:
                ratio = statistics.median(seconds[name] / seconds[base] for seconds in turns)
                print(f"{size}, {name}: {statistics.median(seconds[name] for seconds in turns) * 1e3:.1f} ms a step")
                if name != base:
                    figures[f"{size}: {name} over {base}"] = round(ratio, 3)
    report("training_step", figures)


def _ours(text: Path, size: str, settings: list[str], runs: Path) -> float:
    """Return the seconds of a step of this package's `train.py`."""
    block_size, *_, batch_size, steps, every = SIZES[size]
    places = [
        "data=text",
        f"data.path={text}",
        f"runs_dir={runs}",
        "name=step",
        "trainer=cpu",
        "callbacks.samples=null",
    ]
    length = ["trainer=cpu", f"batch_size={batch_size}", f"trainer.max_steps={steps}", "trainer.limit_val_batches=1"]
    command = [*places, *length, f"trainer.log_every_n_steps={every}", f"model={size}", *settings]
    subprocess.run([sys.executable, "train.py", *command], cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
    newest = max(runs.glob("*/*/metrics.csv"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open() as file:
        speeds = [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]
    return _median([batch_size * block_size / speed for speed in speeds])


def _prepare(source: Path, text: Path, folder: Path) -> Path:
    """Copy nanoGPT's code, and let it encode the text."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".git", "out*", "*.bin", "assets"))
    shutil.copy(text, folder / "data" / "shakespeare_char" / "input.txt")
    prepare = [sys.executable, "data/shakespeare_char/prepare.py"]
    subprocess.run(prepare, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def _nanogpt(folder: Path, size: str) -> float:
    """Return the seconds of a step of nanoGPT's `train.py`."""
    block_size, n_layer, n_head, n_embd, batch_size, steps, _ = SIZES[size]
    sizes = f"block_size={block_size} n_layer={n_layer} n_head={n_head} n_embd={n_embd} batch_size={batch_size}"
    length = f"max_iters={steps} lr_decay_iters={steps} log_interval=1 eval_iters=1 eval_interval={10 * steps}"
    others = "device=cpu dtype=float32 compile=False dropout=0.0 always_save_checkpoint=False"
    arguments = [f"--{setting}" for setting in f"{sizes} {length} {others}".split()]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *arguments]
    output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return _median([float(found) / 1e3 for found in re.findall(r"^iter .* time ([\d.]+)ms", output, re.MULTILINE)])


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[round(WARM_UP * len(seconds)) :])


if __name__ == "__main__":
    main()
