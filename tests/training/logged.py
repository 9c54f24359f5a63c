"""What loggers stored, read back by the tools they are for, or from the bytes."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Scalars = dict[str, list[tuple[int, float]]]
"""Steps and values by key."""


@dataclass
class Stored:
    """What a logger stored of one run."""

    scalars: Scalars = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    pictures: set[str] = field(default_factory=set)
    config: Any = None
    about: Any = None
    """W&B's record of the run."""
    exit_code: int | None = None


def in_csv(run_dir: Path) -> Stored:
    stored = Stored()
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value and key != "step":
                    stored.scalars.setdefault(key, []).append((int(row["step"]), float(value)))
    return stored


def in_tensorboard(run_dir: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    stored = Stored({key: [(e.step, e.value) for e in events.Scalars(key)] for key in tags["scalars"]})
    for tag in tags["tensors"]:
        written = [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)]
        stored.texts[tag.removesuffix("/text_summary")] = written
    stored.config = stored.texts.pop("config")[0]
    stored.pictures = {tag for tag in tags["images"] if events.Images(tag)[0].width > 1}
    return stored


def in_wandb(wandb_run: Path) -> Stored:
    """A folder of W&B's, as in `wandb/offline-run-…`. Its own process writes the end a moment after `finish`."""
    deadline = time.monotonic() + 10
    while (stored := _in_wandb(wandb_run)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return stored


def _in_wandb(wandb_run: Path) -> Stored:
    from wandb.proto.wandb_internal_pb2 import Record

    stored = Stored()
    (file,) = wandb_run.glob("*.wandb")
    for data in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run" and stored.about is None:
            stored.about = record.run
            stored.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            stored.config.pop("_wandb", None)
        elif kind == "exit":
            stored.exit_code = record.exit.exit_code
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                first, *more = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                if more:
                    row.setdefault(first, {})[more[0]] = value
                else:
                    row[first] = value
            _take(stored, row, wandb_run)
    return stored


def _take(stored: Stored, row: dict[str, Any], wandb_run: Path) -> None:
    step = row.pop("step")
    for key, value in row.items():
        if key.startswith("_"):
            continue  # W&B's own
        if not isinstance(value, dict):
            stored.scalars.setdefault(key, []).append((step, value))
        elif value["_type"] == "html-file":
            stored.texts.setdefault(key, []).append((wandb_run / "files" / value["path"]).read_text(encoding="utf-8"))
        elif (wandb_run / "files" / value["path"]).read_bytes().startswith(b"\x89PNG"):
            stored.pictures.add(key)


def _records(data: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format: blocks of 32 KiB, and a header of checksum, length and kind before each part."""
    place, record = 7, b""  # W&B's own header comes first
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
