"""The verb `plot`: curves of one or more runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from rich import box
from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.config.defaults import with_defaults
from gpt2_lightning.app.config.moved import with_current_targets
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops, wide_console
from gpt2_lightning.atomic_replace import replacing
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves.metrics_csv import FILE as METRICS
from gpt2_lightning.inspection.curves.page import write_page
from gpt2_lightning.inspection.curves.panels import SHORT_NAMES, Panel, known_columns, make_panels
from gpt2_lightning.inspection.curves.plots import draw, is_drawn
from gpt2_lightning.inspection.curves.runs import Run, read_runs
from gpt2_lightning.inspection.curves.table import RunTable, group_labels, tabulate
from gpt2_lightning.settings import BelowOne, PathText, Settings, relation

_IMAGES = ("png", "svg", "pdf")
_PAGE = "html"
_COLUMNS_IN_FILES = 120
_LONGEST_NAME, _SHORTEST_NAME = 40, 16
_GAP = 3


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/plot.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `latest` and for names."""
    runs: Annotated[PathText, MinLen(1)] = "latest"
    """`latest`, or a comma-separated list of folders, names or patterns such as `runs/scifi-char/*`."""
    keys: Annotated[list[str], MinLen(1)] = field(
        default_factory=lambda: ["loss", "learning_rate", "gradient_norm", "throughput"]
    )
    """Metrics to plot, one panel each."""
    x: Literal["step", "tokens", "epoch", "time"] = "step"
    """The x axis; `time` is training time, without validation and samples."""
    smoothing: BelowOne | None = None
    """Weight of the exponential moving average; 0 for none, null for a default by the number of points."""
    output: PathText = "curves.html"
    """The output: a .png, .svg, .pdf or .html file."""
    overwrite: bool = False
    """Whether an existing file is replaced; one that this verb made is in any case."""

    @relation
    def _output_is_a_page_or_a_picture(self) -> Iterator[str]:
        if self.format not in (*_IMAGES, _PAGE):
            yield f"output: {self.output} must end in .{', .'.join(_IMAGES)} or .{_PAGE}"

    @property
    def format(self) -> str:
        """Suffix of the output without its dot."""
        return Path(self.output).suffix.lower().removeprefix(".")


def run(plain: dict[str, Any]) -> None:
    """Read the runs, print their table, and plot them.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    output = Path(config.output).expanduser()
    if output.exists() and not config.overwrite and not is_drawn(output):
        raise UserError(f"output: {display_path(output)} exists; name another, or add overwrite=true to replace it")
    runs = read_runs(find_runs(config.runs, Path(config.runs_dir).expanduser()), _completed)
    panels = _panels(runs, config)
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs: {config.runs}"
    with replacing(output.resolve(), "output") as temporary:
        if config.format == _PAGE:
            write_page(panels, runs, title, temporary)
        else:
            draw(panels, group_labels(runs), title, temporary, config.format)
    with until_the_reader_stops():
        _print(tabulate(runs))
        print(f"drew {display_path(output)}")


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run of any version with current targets and their defaults."""
    return with_defaults(with_current_targets(settings))


def find_runs(wanted: str, runs_dir: Path) -> list[Path]:
    """Find folders with metrics, sorted.

    Args:
        wanted: see `Config.runs`; a folder names all runs inside it.
        runs_dir: folder in which `latest` and names are resolved.

    Raises:
        UserError: if an item of the list matches no run.
    """
    if wanted == "latest":
        every = _inside(runs_dir)
        if not every:
            raise UserError(f"there is no run in {runs_dir.absolute()}; train one, or name one with runs=PATH")
        return [max(every, key=lambda folder: (folder / METRICS).stat().st_mtime)]
    whole = _matching(wanted, runs_dir)  # a name may contain a comma
    parts = [wanted] if whole else [part.strip() for part in wanted.split(",")]
    found: set[Path] = set()
    for part in parts:
        folders = {run for match in _matching(part, runs_dir) for run in _inside(match)}
        if not folders:
            raise UserError(
                f"runs: {part} matches no folder with a {METRICS}, here or in {runs_dir.absolute()}; check the path"
            )
        found |= folders
    return sorted(found)


def _matching(pattern: str, runs_dir: Path) -> list[Path]:
    """Resolve a path or pattern, relative to the working folder or to `runs_dir`."""
    path = Path(pattern).expanduser()
    for candidate in (path, runs_dir / path):
        if candidate.exists():
            return [candidate]
        anchor = Path(candidate.anchor or ".")
        relative = candidate.relative_to(anchor) if candidate.anchor else candidate
        matches = sorted(anchor.glob(str(relative))) if str(relative) != "." else []
        if matches:
            return matches
    return []


def _inside(place: Path) -> list[Path]:
    """Find the runs in a folder, which may itself be a run; or the run of a metrics file."""
    if place.name == METRICS:
        return [place.parent]
    if (place / METRICS).exists():
        return [place]
    return [file.parent for file in place.rglob(METRICS)] if place.is_dir() else []


def _panels(runs: Sequence[Run], config: Config) -> list[Panel]:
    panels = make_panels(runs, config.keys, config.x, config.smoothing)
    lacking = [key for key in config.keys if key not in {panel.key for panel in panels}]
    if not panels:
        known = known_columns(runs)
        there = f"there are {', '.join([*SHORT_NAMES, *known])}" if known else "the runs have logged nothing yet"
        raise UserError(f"keys: no run has values of {', '.join(lacking)} against {config.x}; {there}")
    for key in lacking:
        print(f"no run has {key} against {config.x}; it is omitted", file=sys.stderr)
    return panels


def _print(table: RunTable) -> None:
    """Print the table within the width of the terminal, or 120 columns: all results, and the settings that fit."""
    console = wide_console(_COLUMNS_IN_FILES)
    widths = [
        max(map(len, (*name.split(), *(row.cells[place] for row in table.rows))))
        for place, name in enumerate(table.head)
    ]
    shown = [place for place, is_numeric in enumerate(table.is_numeric) if is_numeric]
    room = console.width - sum(widths[place] + _GAP for place in shown)
    longest = max((len(row.name) for row in table.rows), default=0)
    of_name = min(max(longest, len("run")), max(_SHORTEST_NAME, min(room, _LONGEST_NAME)))
    room -= of_name + _GAP
    for place, width in enumerate(widths):
        if place not in shown and width + _GAP <= room:
            shown.append(place)
            room -= width + _GAP
    grid = Table(box=box.SIMPLE, pad_edge=False)
    grid.add_column("run", width=of_name, no_wrap=True)
    for place in sorted(shown):
        justify: Literal["left", "right"] = "right" if table.is_numeric[place] else "left"
        grid.add_column(table.head[place], justify=justify, width=widths[place])
    for row in table.rows:
        name = row.name if len(row.name) <= of_name else f"…{row.name[len(row.name) - of_name + 1 :]}"
        grid.add_row(*(Text(cell) for cell in (name, *(row.cells[place] for place in sorted(shown)))))
    console.print(grid)
    if omitted := [name for place, name in enumerate(table.head) if place not in shown]:
        console.print(f"without {', '.join(omitted)}, which do not fit; a page (.html) shows all", markup=False)
