"""What a completed command left, in a form that is equal for equal results."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMES = {"tokens_per_second", "seconds_left", "peak_memory_gb", "seconds"}
"""Columns that differ from run to run."""
_PARTS = ("state_dict", "optimizer_states", "random_states", "TokenDataModule", "train_losses", "global_step")
_TRAINED = "checkpoints"


@dataclass(frozen=True)
class Violation:
    """A broken promise.

    Args:
        kind: a column of the table.
        text: what was expected and what was found.
    """

    kind: str
    text: str


def collect(place: Path, results: str) -> dict[str, str]:
    """Fingerprint the results of a command.

    A folder of a run that was killed before its first checkpoint is no result, where a restart chooses a new folder.

    Args:
        place: working folder of the command.
        results: pattern of its results.

    Returns:
        Fingerprints by path, with the names of runs replaced by their numbers.
    """
    found = sorted(place.glob(results))
    if results.startswith("runs/"):
        found = [run for run in found if any((run / _TRAINED).glob("*.ckpt"))]
    files = {}
    for number, result in enumerate(found):
        for file in sorted(result.rglob("*")) if result.is_dir() else [result]:
            if not file.is_dir():
                files[f"{number}/{file.relative_to(result)}"] = _fingerprint(file)
    return files


def compare(expected: dict[str, str], found: dict[str, str]) -> Iterator[Violation]:
    """Compare the results of a disturbed command with those of an undisturbed one."""
    for name in sorted({*expected, *found}):
        if name not in found:
            yield Violation("unequal", f"{name} is missing")
        elif name not in expected:
            if "/abandoned-" not in name:
                yield Violation("strays", f"{name} is left over")
        elif expected[name] != found[name]:
            if name.endswith("metrics.csv"):
                yield Violation("rows", f"{name}: {_rows(expected[name], found[name])}")
            else:
                yield Violation("unequal", f"{name} is not that of the undisturbed run")


def leftovers(place: Path) -> Iterator[Violation]:
    """Temporary files below a folder; a run without a checkpoint, killed before its first, remains as it is."""
    for file in place.rglob(".*"):
        trained = file.parent if file.parent.name == _TRAINED else file.parent / _TRAINED
        is_run = trained.is_dir() or (file.parent / "run.lock").exists()
        is_given_up = is_run and not any(trained.glob("[!.]*.ckpt"))
        if file.suffix in (".tmp", ".old", ".part") and not is_given_up:
            yield Violation("strays", f"{file.relative_to(place)} is left over")


def _fingerprint(file: Path) -> str:
    try:
        if file.suffix == ".ckpt":
            return _digest_of_checkpoint(file)
        if file.name in ("metrics.csv", "sweep.csv"):
            return _without_times(file.read_text(encoding="utf-8"))
        if file.suffix in (".png", ".yaml", ".log", ".lock") or file.name in ("status.json", "sweep.json"):
            return "" if file.stat().st_size or file.suffix == ".lock" else "empty"
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except Exception as error:  # a file that cannot be read is unequal to any other
        return f"unreadable: {type(error).__name__}: {error}"


def _without_times(text: str) -> str:
    rows = list(csv.reader(io.StringIO(text)))
    kept = [index for index, name in enumerate(rows[0]) if name not in _TIMES] if rows else []
    return "\n".join(",".join(row[index] if index < len(row) else "?" for index in kept) for row in rows)


def _rows(expected: str, found: str) -> str:
    old, new = expected.splitlines(), found.splitlines()
    lost, added = [row for row in old if row not in new], [row for row in new if row not in old]
    counts = f"{len(old)} rows, {len(lost)} of them lost; {len(new)} found, {len(added)} of them others"
    return f"{counts}; {lost[:1]} {added[:1]}"


def _digest_of_checkpoint(file: Path) -> str:
    import torch

    content = torch.load(file, map_location="cpu", weights_only=True)
    digest = hashlib.sha256()
    for part in _PARTS:
        _feed(digest, part, content.get(part))
    return digest.hexdigest()


def _feed(digest: Any, name: str, value: object) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in value:
            _feed(digest, f"{name}.{key}", value[key])
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            _feed(digest, f"{name}.{index}", one)
    else:
        digest.update(f"{name}={value!r}".encode())
