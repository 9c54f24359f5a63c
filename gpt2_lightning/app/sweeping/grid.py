"""Grid sweeps: one run for each combination of values, for `-m` of `train` and `finetune`.

Replaces Hydra's basic sweeper. Hydra's launchers start the runs, locally or on a cluster, each in a separate process
(`job_process`). The status of a run is saved in its folder, so launchers need not return a result.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from gpt2_lightning.app.config.overrides import as_typed, command
from gpt2_lightning.app.output.exits import SIGNAL_BASE, fault_list
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.sweeping import composition, folders
from gpt2_lightning.app.sweeping.status import ENDED, Status, digest_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.metrics.monitor import Monitor

log = logging.getLogger(__name__)

_EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}
"""Packages of Hydra's launchers, and the extras of this package that install them."""


@runtime_checkable
class Command(Protocol):
    """Task function that Hydra calls for each job: a verb with its command line."""

    verb: str
    faults: list[str]
    """Faults found before Hydra composed the configuration."""
    arguments: list[str]
    """Command-line arguments as typed."""

    def __call__(self, config: DictConfig) -> Any: ...


@dataclass(frozen=True)
class Job:
    """One run of the sweep, with a configuration that passed all checks."""

    overrides: list[str]
    settings: dict[str, str]
    digest: str
    subfolder: str
    """Value of `hydra.sweep.subdir`."""


class Grid:
    """Grid sweep: checks all runs, launches those that have not ended, and tabulates the results.

    Args:
        hydra: Hydra's configuration loader and callbacks.
        task: task function, a `Command`.
        config: composed configuration of the command line, without the swept values.
        max_batch_size: number of runs per call of the launcher; None for all.
    """

    def __init__(self, hydra: HydraContext, task: TaskFunction, config: DictConfig, max_batch_size: int | None) -> None:
        assert isinstance(task, Command), "the program calls Hydra with one"
        self._hydra, self._config, self.max_batch_size = hydra, config, max_batch_size
        self._task: Command = task

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep.

        Args:
            arguments: overrides of the command line; those with several values span the grid.

        Raises:
            UserError: if any configuration has faults; the message lists all of them.
            SystemExit: if a run failed or the sweep was stopped.
        """

        log_to_terminal()
        self._require_launcher()
        jobs = self._jobs(arguments)
        digest = digest_of(*(job.digest for job in jobs))
        folder = Path(self._config.hydra.sweep.dir)
        if not any(one.startswith("hydra.sweep.dir=") for one in self._config.hydra.overrides.hydra):
            folder = folders.find_or_name(folder, digest)
        places = _assign(jobs, folder)
        left = [job for job in jobs if not _has_ended(places[job.digest])]
        ended = f", {len(jobs) - len(left)} of them done before" if len(left) < len(jobs) else ""
        log.info("sweep: %d %s in %s%s", len(jobs), "runs" if len(jobs) > 1 else "run", display_path(folder), ended)
        for job in jobs:
            status = Status.read(places[job.digest])
            if status is None or status.settings != job.settings:  # written by a sweep over other keys
                (status or Status({}, job.digest)).now(settings=job.settings).write(places[job.digest])
        folders.sign(folder, digest, command(self._task.verb, *self._task.arguments))
        code = self._launch(left, places, folder) if left else 0
        self._conclude(folder, [places[job.digest] for job in jobs], code)

    def _jobs(self, arguments: list[str]) -> list[Job]:
        """Compose and check each distinct run."""
        parser = OverridesParser.create(config_loader=self._hydra.config_loader)
        overrides = parser.parse_overrides(arguments)
        _require_lists(overrides)
        swept = [one.get_key_element() for one in overrides if one.is_sweep_override()]
        alternatives = [_alternatives(one) for one in overrides]
        for one, several in zip(overrides, alternatives, strict=True):
            if not several:
                raise UserError(
                    f"{one.get_key_element()}: {str(one.input_line).partition('=')[2]} has no values; name at least one"
                )
        combinations = list(itertools.product(*alternatives))
        jobs: dict[str, Job] = {}
        found: dict[str, list[str]] = {}
        for number, combination in enumerate(combinations):
            values = dict(as_typed(one).split("=", 1) for one in combination if one.partition("=")[0] in swept)
            with self._composed(combination, number) as config:
                plain, faults = composition.checked(self._task.verb, config)
                subfolder = str(config.hydra.sweep.subdir)
            for fault in faults:
                found.setdefault(fault, []).append(" ".join(f"{key}={value}" for key, value in values.items()))
            if not faults:
                job = Job([*combination], values, digest_of(self._task.verb, plain), subfolder)
                jobs.setdefault(job.digest, job)
        every = [_with_runs(fault, runs, len(combinations)) for fault, runs in found.items()]
        if self._task.faults or every:
            raise UserError(fault_list([*self._task.faults, *every]))
        return list(jobs.values())

    @contextlib.contextmanager
    def _composed(self, overrides: Sequence[str], number: int) -> Iterator[DictConfig]:
        config = self._hydra.config_loader.load_sweep_config(self._config, list(overrides))
        with composition.job_of(config, number):
            yield config

    def _launch(self, jobs: list[Job], places: dict[str, Path], folder: Path) -> int:
        """Launch runs; return the exit code of a sweep that was stopped, otherwise 0."""
        with read_write(self._config), open_dict(self._config):
            self._config.hydra.sweep.dir = str(folder)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._hydra, task_function=self._task, config=self._config
        )
        where = _stated("hydra.sweep.dir", str(folder))
        batch = [
            [*job.overrides, where, _stated("hydra.sweep.subdir", str(places[job.digest].relative_to(folder)))]
            for job in jobs
        ]
        try:
            at_a_time = self.max_batch_size or len(batch)
            for first in range(0, len(batch), at_a_time):
                returned = launcher.launch(batch[first : first + at_a_time], initial_job_idx=first)
                for job, result in zip(jobs[first:], returned, strict=False):
                    _note_exception(places[job.digest], result)
        except KeyboardInterrupt:
            return SIGNAL_BASE + signal.SIGINT
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        except Exception as error:  # raised by the launcher, or for a process that it lost
            log.error("the launcher has failed: %s: %s", type(error).__name__, error)
        return 0

    def _conclude(self, folder: Path, runs: list[Path], code: int) -> None:
        """Tabulate the results, and exit unless all runs succeeded."""
        from gpt2_lightning.app.sweeping.table import tabulate

        statuses = tabulate(folder, runs, Monitor.of(self._config), has_ended=not code)
        again = command(self._task.verb, *self._task.arguments)
        if code:
            log.info("stopped; to resume:\n  %s", again)
            raise SystemExit(code)
        failed = [run for run, status in statuses.items() if status.state == "failed"]
        for run in failed:
            log.error("%s failed: %s", display_path(run), statuses[run].reason)
        left = sum(status.state not in ENDED for status in statuses.values())
        if left:
            log.error("error: %d of %d runs have not ended; to start them again:\n  %s", left, len(runs), again)
            raise SystemExit(1)

    def _require_launcher(self) -> None:
        package = str(OmegaConf.select(self._config, "hydra.launcher._target_")).split(".")[1]
        if package in _EXTRAS and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
            raise UserError(
                f"hydra/launcher: {package.replace('_', '-')} is not installed; "
                f"pip install 'gpt2-lightning[{_EXTRAS[package]}]'"
            )


def _require_lists(overrides: list[Override]) -> None:
    for one in overrides:
        if one.is_sweep_override() and not one.is_discrete_sweep():
            raise UserError(
                f"{one.key_or_group}: an interval has no end of values; list some, as in "
                f"{one.key_or_group}=1e-3,3e-3, or search it with gpt2-lightning sweep"
            )


def _alternatives(one: Override) -> list[str]:
    """Split an override with several values into one override per value."""
    key = one.get_key_element()
    if one.is_sweep_override():
        return [f"{key}={value}" for value in one.sweep_string_iterator()]
    return [key if one.is_delete() else f"{key}={one.get_value_element_as_str()}"]


def _assign(jobs: list[Job], folder: Path) -> dict[str, Path]:
    """Return the folder of each run by digest: its existing folder, otherwise the proposed one or an unused number."""
    found = {status.digest: run for run in folder.glob("*") if run.is_dir() and (status := Status.read(run))}
    places = {job.digest: found[job.digest] for job in jobs if job.digest in found}
    for job in jobs:
        if job.digest not in places:
            taken = {*found.values(), *places.values()}
            names = [job.subfolder, *map(str, range(len(taken) + 1))]
            places[job.digest] = next(folder / name for name in names if folder / name not in taken)
    return places


def _note_exception(run: Path, result: JobReturn) -> None:
    """Save an exception raised outside a run in its status; exceptions of the run itself are saved by its process."""
    if result.status == JobStatus.FAILED:
        status = Status.read(run) or Status({}, "")
        status.now(state="failed", error=f"{type(result._return_value).__name__}: {result._return_value}").write(run)


def _has_ended(run: Path) -> bool:
    status = Status.read(run)
    return status is not None and status.state in ENDED


def _with_runs(fault: str, runs: list[str], count: int) -> str:
    if len(runs) == count:
        return fault
    others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"{fault} (with {runs[0]}{others})"


def _stated(key: str, value: str) -> str:
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
