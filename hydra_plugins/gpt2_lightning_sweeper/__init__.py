"""Hydra sweeper plugin for `train` and `finetune`.

Hydra imports this module at each start, so it imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Sweeper that runs each combination of values; see `gpt2_lightning.app.sweeping.grid`.

    Args:
        max_batch_size: number of runs per call of the launcher; None for all.
        params: values to sweep by key, in addition to those of the command line.
    """

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None) -> None:
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._hydra, self._task, self._config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        from gpt2_lightning.app.sweeping.grid import Grid

        grid = Grid(self._hydra, self._task, self._config, self.max_batch_size)
        grid.sweep([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
