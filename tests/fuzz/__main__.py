"""Fuzz the parsers: `python -m tests.fuzz count=10000 seed=0`; exit code 1 if an input failed.

count=10000          inputs, divided among the parsers
seed=0               of the mutations
parser=              a single parser, such as parser=checkpoint
number=              a single input of that parser, to reproduce its failure with a traceback
"""

from __future__ import annotations

import sys
import time

from tests.fuzz.parsers import PARSERS
from tests.fuzz.runner import Report, fuzz, reproduce

_PROGRESS_SECONDS = 10


def main(arguments: list[str]) -> int:
    settings = {"count": "10000", "seed": "0", "parser": "", "number": ""}
    settings |= {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    seed, names = int(settings["seed"]), [settings["parser"]] if settings["parser"] else list(PARSERS)
    if settings["number"]:
        reproduce(names[0], int(settings["number"]), seed)
        return 0
    each, failures = -(-int(settings["count"]) // len(names)), 0
    print("| parser | inputs | valid | refused | failed | seconds | slowest | memory |", flush=True)
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in names:
        report = fuzz(name, each, seed, _Progress(name, each))
        print(
            f"| {name} | {each:,} | {report.valid:,} | {report.refused:,} | {len(report.failures)} "
            f"| {report.seconds:.0f} | {report.slowest:.1f} s | +{report.growth / 2**20:,.0f} MiB |",
            flush=True,
        )
        failures += len(report.failures)
    return int(failures > 0)


class _Progress:
    """Prints failures as they occur, and the number of inputs read every ten seconds, to standard error."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count, self.printed, self.failures = name, count, time.monotonic(), 0

    def __call__(self, report: Report) -> None:
        for failure in report.failures[self.failures :]:
            print(f"FAILED {failure}", file=sys.stderr, flush=True)
        self.failures = len(report.failures)
        if time.monotonic() > self.printed + _PROGRESS_SECONDS:
            self.printed = time.monotonic()
            done = f"{report.valid + report.refused + self.failures:,} of {self.count:,} inputs"
            print(f"{self.name}: {done}, {self.failures} failed", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
