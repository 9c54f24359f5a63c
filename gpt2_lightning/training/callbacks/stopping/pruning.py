"""Pruning of unpromising trials of an Optuna study."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import lightning as L

from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.stopping.step_limit import validation_follows
from gpt2_lightning.training.metrics.monitor import Monitor

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

log = logging.getLogger(__name__)

Pruner = Literal["median", "hyperband", "none"]
PRUNED_AT = "pruned at step"
"""User attribute of a pruned trial: its last step."""


class Pruning(L.Callback):
    """Report every value of the monitored metric to an Optuna study, and stop the trial if the pruner decides so.

    Args:
        storage: URL of the study's database.
        study: name of the study.
        trial: number of the trial.
        pruner: see `make_pruner`.
        startup_trials: see `make_pruner`.
        warmup_steps: see `make_pruner`.
    """

    def __init__(
        self, storage: str, study: str, trial: int, pruner: Pruner, startup_trials: int, warmup_steps: int
    ) -> None:
        self.storage, self.study, self.trial = storage, study, trial
        self.pruner = pruner
        self.startup_trials, self.warmup_steps = startup_trials, warmup_steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not validation_follows(trainer):
            self._stop_if_hopeless(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_hopeless(trainer)

    def _stop_if_hopeless(self, trainer: L.Trainer) -> None:
        metrics = Metrics.of(trainer)
        value = metrics.measured
        if value is not None and distributed.broadcast(lambda: self._is_hopeless(trainer, metrics.monitor, value)):
            trainer.should_stop = True

    def _is_hopeless(self, trainer: L.Trainer, monitor: Monitor, value: float) -> bool:
        import optuna

        step = trainer.global_step
        pruner = make_pruner(self.pruner, self.startup_trials, self.warmup_steps)
        study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=pruner)
        known = study.get_trials(deepcopy=False)[self.trial]
        trial = optuna.trial.Trial(study, known._trial_id)
        if step not in known.intermediate_values:  # a resumed run may repeat a step
            trial.report(value, step)
        if trainer.should_stop or not trial.should_prune():  # a run that ends at this step is complete
            return False
        trial.set_user_attr(PRUNED_AT, step)
        log.info("pruned: %s of %.4f at step %s is no better than that of others", monitor.metric, value, f"{step:,}")
        return True


def make_pruner(kind: Pruner, startup_trials: int, warmup_steps: int) -> BasePruner:
    """Build an Optuna pruner.

    Args:
        kind: `median` prunes a trial whose best value is worse than the median of the other trials at the same step;
            `hyperband` runs many trials for few steps and few trials for many (Li et al. 2018); `none` prunes no trial.
        startup_trials: trials that `median` lets finish before it prunes any.
        warmup_steps: steps for which no trial is pruned.
    """
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if kind == "median":
        return MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_steps)
    return HyperbandPruner(min_resource=max(1, warmup_steps)) if kind == "hyperband" else NopPruner()
