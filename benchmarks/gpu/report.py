"""The results as JSON and as a table in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.rows import Row
from gpt2_lightning.atomic import write_text

_CAPTION = """\
Written by `python -m benchmarks.gpu` on {machine}. Speeds and times are medians of several stretches of steps, with
the device synchronized at the ends of each; "±" is half the difference of the longest and the shortest, as a share of
the median. "first" is the seconds of the first step, with compilation, or to the first token; code that an earlier
part has compiled comes from the compiler's cache. "GB" is the peak memory of tensors.
"""
_COLUMNS: dict[str, Callable[[Row], str]] = {
    "tokens/s": lambda row: f"{row['tokens_per_second']:,.0f}",
    "MFU": lambda row: f"{row['mfu']:.1%}",
    "ms a step": lambda row: f"{row['milliseconds']:,.2f}",
    "±": lambda row: f"{row['spread'] / 2:.1%}",
    "first": lambda row: f"{row['first_seconds']:.3g}",
    "GB": lambda row: f"{row['peak_gb']:.1f}",
}


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write `gpu.json`, `gpu.md` and the texts of rows, such as `gpu_profile.txt`."""
    figures = {row["name"]: {key: value for key, value in row.items() if key not in ("name", "text")} for row in rows}
    results.save("gpu", figures, folder)
    write_text(folder / "gpu.md", f"{_caption()}\n{table(rows)}", durable=False)
    for row in rows:
        if "text" in row:
            write_text(folder / f"gpu_{row['name'].replace('/', '_')}.txt", row["text"], durable=False)


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown, with a line for each row."""
    header = ["part", "what", *_COLUMNS, "speed relative to", ""]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        part, _, case = row["name"].partition(": ")
        figures = [_cell(column, row) for column in _COLUMNS.values()]
        remark = row.get("error", row.get("remark", ""))
        title = ", ".join(filter(None, [PARTS[part].title, case]))
        lines.append([f"`{part}`", title, *figures, _relative(row, rows), remark])
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def line(row: Row) -> str:
    """Return the results of a row in one line."""
    figures = [f"{name} {found}" for name, column in _COLUMNS.items() if (found := _cell(column, row))]
    return f"{row['name']}: {', '.join([*figures, row.get('error', row.get('remark', ''))])}"


def _cell(column: Callable[[Row], str], row: Row) -> str:
    try:
        return column(row)
    except KeyError:  # it was not measured
        return ""


def _relative(row: Row, rows: Sequence[Row]) -> str:
    """Return the ratio of the speed to that of the part's reference."""
    part, separator, case = row["name"].partition(": ")
    reference = PARTS[part].reference
    other = next((each for each in rows if each["name"] == f"{reference}{separator}{case}"), Row())
    for key, power in (("tokens_per_second", 1), ("milliseconds", -1)):
        if key in row and key in other:
            return f"`{reference}` {(row[key] / other[key]) ** power:.2f}"  # type: ignore[literal-required]  # of Row
    return ""


def _caption() -> str:
    machine = results.machine()
    names = [machine.get("gpu", machine["processor"]), f"torch {machine['torch']}", machine["date"]]
    return _CAPTION.format(machine=", ".join(names))
