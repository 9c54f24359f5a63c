"""Undisturbed runs, made once for each scenario, and disturbed runs by their number."""

from __future__ import annotations

import random
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.soak import outcomes
from tests.soak.faults import UNDISTURBED, Extent, Tools
from tests.soak.scenarios import BASE, INPUTS, Scenario, make_inputs
from tests.soak.starts import End, Starter

_WEIGHTS = re.compile(r"weights: SHA-256 ([0-9a-f]{64})")
_SECONDS = 300.0


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a scenario."""

    extent: Extent
    results: dict[str, str]
    """Fingerprints of its files; see `outcomes`."""
    weights: list[str]
    """Hashes that it printed."""


class References:
    """Undisturbed runs in the folder of a worker.

    Args:
        folder: of the worker.
        tools: of this machine.
    """

    def __init__(self, folder: Path, tools: Tools) -> None:
        self._folder, self._tools = folder, tools
        self._found: dict[str, Reference] = {}
        self._inputs = folder / INPUTS
        shutil.rmtree(self._inputs, ignore_errors=True)  # perhaps half of them, of a soak that was killed

    def of(self, scenario: Scenario) -> Reference:
        """The undisturbed run of a scenario."""
        if not self._inputs.exists():
            make_inputs(self._inputs)
            starter, _ = self._undisturbed(BASE)  # makes the caches of libraries as well
            shutil.move(starter.place / BASE.results, self._inputs / "base")
        if scenario.name not in self._found:
            begin = time.monotonic()
            starter, end = self._undisturbed(scenario)
            extent = Extent(time.monotonic() - begin, end.calls)
            results = outcomes.collect(starter.place, scenario.results)
            self._found[scenario.name] = Reference(extent, results, printed_weights(end.output))
        return self._found[scenario.name]

    def starter(self, scenario: Scenario, name: str) -> Starter:
        """Make a folder in which a scenario can start."""
        folder, home = self._folder / name, self._folder / "home"
        shutil.rmtree(folder, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        starter = Starter(folder, home, self._tools)
        scenario.prepare(starter.place, self._inputs)
        return starter

    def _undisturbed(self, scenario: Scenario) -> tuple[Starter, End]:
        starter = self.starter(scenario, "reference")
        end = starter.run(scenario, UNDISTURBED, random.Random(0), _SECONDS)
        if end.code != 0:
            raise RuntimeError(f"{scenario.name} fails without faults: {end}")
        return starter, end


def printed_weights(output: str) -> list[str]:
    """Hashes of weights in a program's output."""
    return _WEIGHTS.findall(output)
