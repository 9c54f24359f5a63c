"""The table of a soak."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

VIOLATIONS = {
    "unequal": "unequal",
    "rows": "lost or doubled rows",
    "unreadable": "unreadable",
    "hangs": "hangs",
    "strays": "strays",
    "messages": "bad messages",
}
"""Kinds of violations, and their columns."""


def read(records: Path) -> list[dict[str, Any]]:
    """Read the records of a soak; a last line that was cut off is passed over."""
    found = {}
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["number"]] = record
    return [found[number] for number in sorted(found)]


def markdown(records: Sequence[dict[str, Any]], seed: int, minutes: float, remarks: Iterable[str] = ()) -> str:
    """Tabulate records by faults and by scenarios.

    A violation counts for the last fault that struck before it.
    """
    faults = [fault for record in records for fault in record["faults"] if fault["struck"]]
    starts = sum(record["starts"] for record in records)
    bad = sum(bool(record["violations"]) for record in records)
    lines = [
        f"`python -m tests.soak seed={seed}`: {minutes:.0f} minutes on {os.cpu_count()} cores, "
        f"{len(records):,} disturbed runs, {starts:,} starts, {len(faults):,} faults that struck; "
        f"{bad} runs with a broken promise.",
        *remarks,
        "",
        *_rows("fault", *_by_fault(records)),
        "",
        *_rows("command", *_by_scenario(records)),
    ]
    return "\n".join(lines) + "\n"


def _by_fault(records: Sequence[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    tried: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    broken: Counter[tuple[str, str]] = Counter()
    for record in records:
        struck = [fault["kind"] for fault in record["faults"] if fault["struck"]]
        found = {(violation["fault"], violation["kind"]) for violation in record["violations"]}
        tried.update(struck)
        broken.update(found)
        completed.update(struck)
        completed.subtract({fault for fault, _ in found} & set(struck))
    return tried, completed, broken


def _by_scenario(records: Sequence[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    tried: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    broken: Counter[tuple[str, str]] = Counter()
    for record in records:
        name, struck = record["scenario"], sum(fault["struck"] for fault in record["faults"])
        kinds = {violation["kind"] for violation in record["violations"]}
        tried[name] += struck
        completed[name] += struck - bool(kinds and struck)
        broken.update((name, kind) for kind in kinds)
    return tried, completed, broken


def _rows(title: str, tried: Counter[str], completed: Counter[str], broken: Counter[tuple[str, str]]) -> Iterable[str]:
    yield " | ".join([f"| {title}", "tried", "completed and equal", *VIOLATIONS.values()]) + " |"
    yield "| --- |" + " ---: |" * (len(VIOLATIONS) + 2)
    names = sorted({*tried, *(name for name, _ in broken)})
    for name in names:
        counts = [tried[name], completed[name], *(broken[name, kind] for kind in VIOLATIONS)]
        yield f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |"
    sums = [tried.total(), completed.total()]
    sums += [sum(broken[name, kind] for name in names) for kind in VIOLATIONS]
    yield "| **all** | " + " | ".join(f"{count:,}" for count in sums) + " |"
