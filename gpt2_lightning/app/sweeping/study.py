"""Optuna studies whose trials are runs, each in a separate process.

The study's database is in the folder of the sweep, and the run of a trial in a subfolder named by its number. A trial
that was stopped or killed keeps the state RUNNING in the database, and resumes from its checkpoint with the study.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import multiprocessing.connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gpt2_lightning.app.config.hydra_state import portable_hydra_config
from gpt2_lightning.app.config.overrides import CommandLine, as_typed, command
from gpt2_lightning.app.output.exits import fault_list
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.sweeping import composition, folders
from gpt2_lightning.app.sweeping.job_process import JobProcess, passing_signals_on
from gpt2_lightning.app.sweeping.progress import progress
from gpt2_lightning.app.sweeping.settings import SweepSettings
from gpt2_lightning.app.sweeping.space import Space
from gpt2_lightning.app.sweeping.status import Status, digest_of
from gpt2_lightning.app.sweeping.study_report import report
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import callbacks
from gpt2_lightning.training.callbacks.stopping.pruning import PRUNED_AT, make_pruner
from gpt2_lightning.training.metrics.monitor import Monitor

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

log = logging.getLogger(__name__)

_DATABASE = "study.db"
_STUDY = "sweep"
_FROM_THE_SHELL = 128


class Search:
    """Hyperparameter search with Optuna.

    Args:
        config: composed configuration of the verb `sweep`.

    Raises:
        UserError: if settings of the trials have faults, all of which the message lists; no folder is created then.
    """

    def __init__(self, config: SweepSettings) -> None:
        self.config = config
        command_line = CommandLine.read(["-m", *config.overrides], config_folder())
        if command_line.faults:
            raise UserError(fault_list(command_line.faults))
        self._loader = GlobalHydra.instance().config_loader()
        self.space = Space.read(command_line.arguments[1:], self._loader)
        self.monitor = Monitor()
        self._digest, new = self._checked()
        self.folder = (
            Path(config.study_dir).expanduser() if config.study_dir else folders.find_or_name(new, self._digest)
        )

    def run(self) -> int:
        """Run the remaining trials and report the results; return the exit code of the program."""
        import optuna
        from filelock import FileLock, Timeout

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "sweep.lock", timeout=0):
                return self._run_alone()
        except Timeout:
            raise UserError(
                f"another command carries out the search in {display_path(self.folder)}; wait, or stop it"
            ) from None

    def _run_alone(self) -> int:
        import optuna
        from optuna.trial import TrialState

        if folders.digest_in(self.folder) not in (None, self._digest):
            raise UserError(f"study_dir: {display_path(self.folder)} holds another search; name another folder")
        folders.sign(self.folder, self._digest, self.again())
        config = self.config
        storage = f"sqlite:///{self.folder.absolute() / _DATABASE}"
        study = optuna.create_study(
            study_name=_STUDY,
            storage=storage,
            load_if_exists=True,
            pruner=make_pruner(config.pruner, config.startup_trials, config.warmup_steps),
            direction="minimize" if self.monitor.mode == "min" else "maximize",
        )
        trials = study.get_trials(deepcopy=False)
        open_ones = [trial for trial in trials if trial.state == TrialState.RUNNING]
        unfinished = [trial for trial in open_ones if len(trial.params) == len(self.space.swept)]
        for trial in open_ones:
            if trial not in unfinished:  # killed while its parameters were sampled
                study.tell(trial.number, state=TrialState.FAIL)
        count = f"{len(trials) - len(open_ones)} of {config.trials} trials done before, " if trials else ""
        log.info("search: %s%d trials in all, in %s", count, config.trials, display_path(self.folder))
        code = self._carry_out(study, [optuna.trial.Trial(study, trial._trial_id) for trial in unfinished], storage)
        return report(study, self.folder, self.monitor, self.best_command, self.again(), code)

    def _carry_out(self, study: Study, unfinished: list[Trial], storage: str) -> int:
        """Run trials in parallel; return the exit code of a search that was stopped, otherwise 0."""
        running: dict[JobProcess, Trial] = {}
        with passing_signals_on(running) as received:
            while True:
                while len(running) < self.config.workers and not received:
                    trial = unfinished.pop(0) if unfinished else self._ask(study)
                    if trial is None:
                        break
                    process = self._start(study, trial, storage)
                    if process is not None:
                        running[process] = trial
                        for number in received:  # received while the process was starting
                            process.tell(number)
                if not running:
                    return _FROM_THE_SHELL + received[0] if received else 0
                by_sentinel = {process.sentinel: process for process in running}
                for sentinel in multiprocessing.connection.wait(list(by_sentinel)):
                    process = by_sentinel[sentinel]  # type: ignore[index]  # `wait` returns sentinels that it was given
                    self._close(study, running[process], process.wait())
                    del running[process]

    def _ask(self, study: Study) -> Trial | None:
        """Sample the next trial; None if there are enough. The sampler is seeded by the trial's number."""
        from optuna.samplers import TPESampler

        number = len(study.get_trials(deepcopy=False))
        if number >= self.config.trials:
            return None
        study.sampler = TPESampler(
            n_startup_trials=self.config.startup_trials, seed=(self.config.sampler_seed + number) % 2**32
        )
        return study.ask({_name(key): distribution for key, distribution in self.space.swept.items()})

    def _start(self, study: Study, trial: Trial, storage: str) -> JobProcess | None:
        """Start the run of a trial; None if its configuration is invalid, in which case the trial has failed."""
        values = {key: trial.params[_name(key)] for key in self.space.swept}
        settings, folder = self.space.typed(values), self.folder / str(trial.number)
        listed = " ".join(f"{key}={value}" for key, value in settings.items())
        log.info("\ntrial %d, %s: %s", trial.number, progress(folder, self.config.trials), listed)
        config = self._compose(values)
        with composition.job_of(config, trial.number):
            plain, faults = composition.checked(self.config.verb, config)
            hydra = portable_hydra_config()
        status = Status.read(folder) or Status(settings, digest_of(self.config.verb, plain))
        status.write(folder)
        if faults:
            self._close(study, trial, status.now(state="failed", error=fault_list(faults)))
            return None
        plain["run_dir"] = str(folder.absolute())
        if self.config.pruner != "none":
            plain["callbacks"]["pruning"] = {
                "_target_": f"{callbacks.__name__}.{callbacks.Pruning.__name__}",
                "storage": storage,
                "study": _STUDY,
                "trial": trial.number,
                "pruner": self.config.pruner,
                "startup_trials": self.config.startup_trials,
                "warmup_steps": self.config.warmup_steps,
            }
        return JobProcess(self.config.verb, plain, hydra, preload=["optuna"])

    def _close(self, study: Study, trial: Trial, status: Status) -> None:
        """Record the outcome of a trial in the study; a trial that was stopped keeps the state RUNNING."""
        from optuna.trial import TrialState

        folder = self.folder / str(trial.number)
        attributes = study.get_trials(deepcopy=False)[trial.number].user_attrs
        if status.state == "done" and PRUNED_AT in attributes:
            status.now(state="pruned").write(folder)
            study.tell(trial.number, state=TrialState.PRUNED)
        elif status.state == "done" and status.value is not None and math.isfinite(status.value):
            study.tell(trial.number, status.value)
        elif status.state in ("done", "failed"):
            status = status.now(state="failed", error=status.error or f"it has no {self.monitor.label}")
            status.write(folder)
            study.tell(trial.number, state=TrialState.FAIL)
            log.error("trial %d failed: %s", trial.number, status.reason)

    def _checked(self) -> tuple[str, Path]:
        """Check the corners of the space; return the digest of this study and the path of a new folder.

        Raises:
            UserError: with all faults, or if the objective would differ between trials.
        """
        for key in ("monitor", "monitor_mode"):
            if key in map(_name, self.space.swept):
                raise UserError(f"{key}: the trials of a search have one objective; give it one value")
        found: dict[str, dict[str, Any]] = {}
        for values in self.space.corners():
            config = self._compose(values)
            with composition.job_of(config, 0):
                plain, faults = composition.checked(self.config.verb, config)
                new = Path(config.hydra.sweep.dir)
            if not faults:
                self.monitor = Monitor.of(plain)
            for fault in faults:
                found.setdefault(fault, values)
        if found:
            raise UserError(
                fault_list(
                    [
                        f"{fault} (with {' '.join(f'{k}={v}' for k, v in self.space.typed(values).items())})"
                        for fault, values in found.items()
                    ]
                )
            )
        space = {key: repr(distribution) for key, distribution in self.space.swept.items()}
        return digest_of(self.config.verb, plain, space, self.config.sampler_seed), new

    def _compose(self, values: dict[str, Any]) -> DictConfig:
        try:
            return self._loader.load_configuration(
                self.config.verb, [*self.space.overrides(values), "hydra.mode=MULTIRUN"], RunMode.MULTIRUN
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"the configuration of a trial cannot be composed: {error}") from None

    def again(self) -> str:
        """Return the command that starts or resumes this search."""
        given = {key: value for key, value in dataclasses.asdict(self.config).items() if key != "overrides"}
        own = [f"{key}={value}" for key, value in given.items() if value is not None]
        return command("sweep", *own, *self.config.overrides)

    def best_command(self, values: dict[str, Any]) -> str:
        """Return the command of a single run with the settings of a trial."""
        drawn = self.space.typed({key: values[_name(key)] for key in self.space.swept})
        fixed = [as_typed(one) for one in self.space.fixed]
        return command(self.config.verb, *fixed, *(f"{key}={value}" for key, value in drawn.items()))


def _name(key: str) -> str:
    """Return the name of a study's parameter: the key without Hydra's prefix."""
    return key.lstrip("+")
