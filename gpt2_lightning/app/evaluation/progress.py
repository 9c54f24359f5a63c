"""Progress of an evaluation on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bars:
    """A progress bar for each benchmark, with items per second and the time left; nothing if there is no terminal.

    An interruption prints how much is done.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("items"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, done: int, total: int) -> Callable[[], None]:
        """Add the bar of a benchmark.

        Args:
            name: name of the benchmark.
            done: number of its items that were measured before.
            total: number of its items.

        Returns:
            A function to call for each further item.
        """
        task = self._progress.add_task(name, total=total, completed=done, rate="")
        began, measured = time.monotonic(), 0

        def advance() -> None:
            nonlocal measured
            measured += 1
            seconds = time.monotonic() - began
            self._progress.update(task, advance=1, rate=f"{measured / seconds:,.1f}/s" if seconds > 0 else "")

        return advance
