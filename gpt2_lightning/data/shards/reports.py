"""Reports of encoded pieces. A report is written after the shards of its piece, and marks them as complete."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.shards.format import read_header
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import read_whole

REPORTS = "pieces"
"""Subfolder of the reports in the folder of the shards."""
SPLITS: tuple[Split, ...] = ("train", "val")


def shard_name(split: Split, number: int) -> str:
    """Return the file name of the training or validation shard of a piece."""
    return f"{split}-{number:05d}.bin"


def report_file(folder: Path, number: int) -> Path:
    """Return the path of the report of a piece."""
    return folder / REPORTS / f"{number:05d}.json"


def count_done(folder: Path) -> int:
    """Return the number of encoded pieces."""
    return len(list((folder / REPORTS).glob("*.json")))


def is_whole(folder: Path, number: int, source: str) -> bool:
    """Whether a piece has a report, and its shards exist, are complete and match the report."""
    try:
        report = json.loads(read_whole(report_file(folder, number)))
        for split in [split for split in SPLITS if split in report]:
            header = read_header(folder / shard_name(split, number))
            if header.source != source or header.checksum != report[split]["checksum"]:
                return False
    except (ValueError, KeyError, TypeError, RecursionError, UserError):
        return False
    return True


def clear_up(folder: Path, process: str = "*") -> None:
    """Delete temporary files of a process (`PID@HOST`), or of all, which is safe once all pieces are complete."""
    for temporary in (*folder.glob(f".*.bin.{process}.tmp"), *(folder / REPORTS).glob(f".*.{process}.tmp")):
        with contextlib.suppress(OSError):
            temporary.unlink()
