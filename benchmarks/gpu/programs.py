"""Measurement of `train.py` as a user types it, by the rows of its `metrics.csv`."""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.gpu.rows import Row, timed
from benchmarks.gpu.scale import Scale, Size

_ROOT = Path(__file__).parents[2]
_SHORT = ("trainer.max_steps=60",)
_SKIPPED = 2
"""Rows of metrics at the beginning of a run, in which kernels are selected and compiled."""


def program(
    scale: Scale, size: Size = "124M", trainer: Literal["gpu", "ddp", "fsdp"] = "gpu", settings: tuple[str, ...] = ()
) -> Iterator[Row]:
    """Run `train.py model=gpt2_… data=scifi trainer=…`; ddp and fsdp by torchrun, with one rank.

    Args:
        scale: the scale; on a CPU, the model is `tiny`.
        size: the model.
        trainer: option of the group `trainer`; on a CPU, its counterpart.
        settings: further settings.

    Raises:
        RuntimeError: if the program fails; the message is its error.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"] if trainer != "gpu" else []
    if scale.device == "cuda":
        chosen = [f"model=gpt2_{size.lower()}", f"trainer={trainer}"]
    else:
        chosen = ["model=tiny", "tokenizer=gpt2", "trainer=cpu" if trainer == "gpu" else f"trainer={trainer}_cpu"]
        chosen += [] if trainer == "gpu" else ["trainer.devices=1"]
    with tempfile.TemporaryDirectory() as folder:
        here = [f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
        command = [sys.executable, *torchrun, "train.py", *chosen, "data=scifi", *_SHORT, *here, *settings]
        lines = []
        with subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                print(line, end="", flush=True)
                lines.append(line.strip())
        if running.returncode:
            raise RuntimeError(_error(lines) or f"exit code {running.returncode}")
        yield _row(Path(folder) / "run")


def _error(lines: list[str]) -> str:
    """Return the message of a failed program: its first error, or else the last line of a traceback."""
    said = [line for line in lines if line]
    return next((line for line in said if line.startswith("error")), said[-1] if said else "")


def _row(run_dir: Path) -> Row:
    with (run_dir / "metrics.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["train/loss"]]
    settings = yaml.safe_load((run_dir / "config.yaml").read_text())
    tokens = (int(found[1]["tokens"]) - int(found[0]["tokens"])) // (int(found[1]["step"]) - int(found[0]["step"]))
    speeds = [float(row["tokens_per_second"]) for row in found[_SKIPPED:]]
    row = timed([tokens / speed for speed in speeds], tokens)
    row["peak_gb"] = max(float(each["peak_memory_gb"]) for each in found)
    if found[-1].get("mfu"):
        row["mfu"] = statistics.median(float(each["mfu"]) for each in found[_SKIPPED:])
    row["remark"] = f"{tokens:,} tokens a step in micro-batches of {settings['micro_batch_size']}"
    return row
