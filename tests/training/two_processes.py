"""Work of several real processes, which communicate over gloo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gpt2_lightning.app.launch import forkserver
from gpt2_lightning.app.launch.elastic import keeping_handlers


def on_two_processes(work: Callable[..., Any], logs: Path, *arguments: Any) -> dict[int, Any]:
    """Return the result of each of two processes by rank."""
    return on_processes(2, work, logs, *arguments)


def on_processes(count: int, work: Callable[..., Any], logs: Path, *arguments: Any) -> dict[int, Any]:
    """Return the result of each process by rank."""
    forkserver.preload()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        start_method=forkserver.METHOD,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
    )
    with keeping_handlers():
        return elastic_launch(config, _rank_main)(work, dict(os.environ), *arguments)


def _rank_main(work: Callable[..., Any], environment: dict[str, str], *arguments: Any) -> Any:
    forkserver.enter(environment)
    return work(*arguments)
