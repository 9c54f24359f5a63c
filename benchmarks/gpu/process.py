"""A part of the benchmark in a process of its own, which has imported everything when its turn comes.

    python -m benchmarks.gpu.process NAME DEVICE OUTPUT

The process waits for a line on its standard input, measures, and writes each row as a line of JSON to `rows.jsonl` of
the folder OUTPUT. The last line has the error of a part that fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from benchmarks.gpu.rows import Row

PROGRAM = ("-m", "benchmarks.gpu.process")
"""Arguments of the interpreter."""
_ROWS, _LOG = "rows.jsonl", "log"


class PartProcess:
    """The process of a part, which imports at once and measures in `measure`. A context manager, which ends it.

    Args:
        name: name of the part.
        device: `cuda` or `cpu`.
        environment: its environment variables.
    """

    def __init__(self, name: str, device: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name)
        with (self._output / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, name, device, self._folder.name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # which can be ended with all processes that the part starts
            )
        assert self._process.stdin is not None
        self._input = self._process.stdin

    def measure(self, timeout: float) -> tuple[list[Row], str]:
        """Let the part measure; return its rows and its output.

        The last row of a part that fails, is killed or takes longer than `timeout`, in seconds, has its error.
        """
        with suppress(OSError):  # it may have died
            self._input.write(b"\n")
            self._input.close()
        error = None
        try:
            if code := self._process.wait(timeout):
                error = f"ended with exit code {code}"
        except subprocess.TimeoutExpired:
            error = f"not finished after {timeout:.0f} s"
        self._end()
        rows = self._rows()
        if error is not None and not any("error" in row for row in rows):
            rows.append({"name": self.name, "error": error})
        return rows, (self._output / _LOG).read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        """Kill the process and those that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            self._input.close()

    def _rows(self) -> list[Row]:
        file = self._output / _ROWS
        lines = file.read_text().splitlines() if file.exists() else []
        rows: list[Row] = [json.loads(line) for line in lines]
        for row in rows:
            row["name"] = ": ".join([self.name, *([row["name"]] if "name" in row else [])])
        return rows


def main() -> None:
    """Measure a part once a line arrives on standard input; without one, its launcher is gone."""
    from benchmarks.gpu.parts import PARTS
    from benchmarks.gpu.scale import SCALES

    name, device, output = sys.argv[1:]
    if not sys.stdin.readline():
        return
    with (Path(output) / _ROWS).open("a") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        try:
            for row in PARTS[name].measure(SCALES[device]):
                write(row)
        except BaseException as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            write({"error": f"{type(error).__name__}: {first_line}"})
            raise


if __name__ == "__main__":
    main()
