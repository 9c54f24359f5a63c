"""Fuzz all parsers: `python -m tests.fuzz count=10000 seed=0`; exit code 1 if an input failed."""

from __future__ import annotations

import sys

from tests.fuzz.parsers import PARSERS
from tests.fuzz.runner import fuzz


def main(arguments: list[str]) -> int:
    settings = {"count": 10_000, "seed": 0} | {k: int(v) for k, _, v in (a.partition("=") for a in arguments)}
    each, failures = -(-settings["count"] // len(PARSERS)), 0
    for name in PARSERS:
        report = fuzz(name, each, settings["seed"])
        print(
            f"{name:12} {each:6,} inputs: {report.valid:6,} valid, {report.refused:6,} refused, "
            f"{len(report.failures):3} failed; {report.seconds:5.0f} s, memory +{report.growth / 2**20:,.0f} MiB",
            flush=True,
        )
        for failure in report.failures[:20]:
            print(f"  {failure}", flush=True)
        failures += len(report.failures)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
