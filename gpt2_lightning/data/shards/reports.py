"""Which pieces of a corpus are done: each one has a report, written after its shards."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.shards.format import read_header
from gpt2_lightning.errors import UserError

REPORTS = "pieces"
"""Folder of the reports, inside that of the shards."""
SPLITS: tuple[Split, ...] = ("train", "val")


def shard_name(split: Split, number: int) -> str:
    """File name of a piece's training or validation shard."""
    return f"{split}-{number:05d}.bin"


def report_file(folder: Path, number: int) -> Path:
    """Path of a piece's report."""
    return folder / REPORTS / f"{number:05d}.json"


def count_done(folder: Path) -> int:
    """Number of pieces that are done."""
    return len(list((folder / REPORTS).glob("*.json")))


def is_whole(folder: Path, number: int, source: str) -> bool:
    """Whether a piece has a report, and each of its shards exists, is complete and the one of the report."""
    try:
        report = json.loads(report_file(folder, number).read_text(encoding="utf-8"))
        for split in [split for split in SPLITS if split in report]:
            header = read_header(folder / shard_name(split, number))
            if header.source != source or header.checksum != report[split]["checksum"]:
                return False
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False
    return True


def clear_up(folder: Path, process: str = "*") -> None:
    """Delete temporary files of a process, or of all: no process needs them once all pieces are whole."""
    for temporary in (*folder.glob(f".*.bin.{process}.tmp"), *(folder / REPORTS).glob(f".*.{process}.tmp")):
        with contextlib.suppress(OSError):
            temporary.unlink()
