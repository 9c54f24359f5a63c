"""Report of a search: table, plots, and the command of the best trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.sweeping.table import tabulate
from gpt2_lightning.inspection.curves.study_plots import draw_history, draw_importances
from gpt2_lightning.training.metrics.monitor import Monitor

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)

HISTORY, IMPORTANCES = "history.png", "importances.png"


def report(
    study: Study,
    folder: Path,
    monitor: Monitor,
    best_command: Callable[[dict[str, Any]], str],
    resume_command: str,
    code: int,
) -> int:
    """Print the results and write the plots.

    Args:
        study: the study.
        folder: folder of the study.
        monitor: the objective.
        best_command: returns the command of one run with the parameters of a trial.
        resume_command: the command that continues the search.
        code: exit code of a search that was stopped; 0 for a search that has ended.

    Returns:
        The exit code of the program.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    logarithmic = {
        key for trial in trials for key, drawn in trial.distributions.items() if getattr(drawn, "log", False)
    }
    statuses = tabulate(folder, [folder / str(trial.number) for trial in trials], monitor, logarithmic)
    reached = [
        (trial.number, trial.value, status.state) for trial, status in zip(trials, statuses.values(), strict=True)
    ]
    drawable = [one for one in reached if one[1] is not None]
    if drawable:
        numbers, values, states = zip(*drawable, strict=True)
        draw_history(numbers, values, states, folder / HISTORY, monitor.label, monitor.mode)
        log.info("  %-16s %s", "history", display_path(folder / HISTORY))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    importances = _importances(study) if len(complete) > 1 else {}
    if importances:
        draw_importances(importances, folder / IMPORTANCES)
        log.info("  %-16s %s", "importances", display_path(folder / IMPORTANCES))
    if complete:
        best = study.best_trial
        command = best_command(best.params)
        log.info("\nbest: trial %d, %s %.4f:\n  %s", best.number, monitor.label, best.value, command)
    if code:
        log.info("stopped; to resume:\n  %s", resume_command)
    elif not complete:
        log.error("error: no trial has ended well; status.json in the folder of each says why")
        return 1
    return code


def _importances(study: Study) -> dict[str, float]:
    """Return the importance of each parameter, summing to 1; empty if all trials reached the same value."""
    import warnings

    from optuna.importance import get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study)
    return found if sum(found.values()) > 0 else {}
