"""Launch of a run's ranks, or the setup of a rank started by torchrun or srun."""

from __future__ import annotations

import functools
import importlib
import itertools
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn

from gpt2_lightning.app.config import build
from gpt2_lightning.app.launch.elastic import Agent
from gpt2_lightning.app.launch.rendezvous import Rendezvous
from gpt2_lightning.app.output.exits import Failure, fail
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.rank_failures import Death
from gpt2_lightning.app.run.resume import as_restarted, require_same_settings
from gpt2_lightning.app.run.settings import require_shares
from gpt2_lightning.app.verbs import module_of
from gpt2_lightning.process_folder import process_folder
from gpt2_lightning.training import distributed
from gpt2_lightning.training.strategies.fsdp import require_sharding_support
from gpt2_lightning.training.trainer import TrainerSpec

log = logging.getLogger(__name__)


def run(verb: str, plain: dict[str, Any]) -> Any:
    """Run `train` or `finetune` on all ranks of its trainer.

    Args:
        verb: `train` or `finetune`.
        plain: the resolved configuration, checked by preflight, with a trainer.

    Returns:
        The result of rank zero; None on other machines.

    Raises:
        UserError: the first one raised by a rank.
        SystemExit: if the run was stopped or failed, after its message was printed.
    """
    spec = build.make(plain["trainer"])
    count = spec.processes()
    if spec.is_sharded:
        require_sharding_support(build.make(plain["optimizer"]))
    require_shares(plain, count)  # before any rank is started
    if distributed.environment() is None and (count > 1 or spec.max_restarts) and plain["plan"] is not True:
        return _start(verb, plain, spec)
    return _run_rank(verb, plain, spec)


def _run_rank(verb: str, plain: dict[str, Any], spec: TrainerSpec) -> Any:
    module = importlib.import_module(module_of(verb))
    if distributed.environment() is None:
        return module.run(plain)
    if not distributed.is_rank_zero():
        _silence()
    distributed.join(spec.on_cuda, spec.waits)
    require_same_settings(distributed.all_gather({"verb": verb, **plain}))
    return module.run(plain)


def _silence() -> None:
    """Discard this rank's log messages and warnings."""
    logging.getLogger("gpt2_lightning").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


def _start(verb: str, plain: dict[str, Any], spec: TrainerSpec) -> Any:
    """Start the ranks, restart them if one dies, and print the cause of failures."""
    agent = Agent(spec, _open_rendezvous(spec) if spec.num_nodes > 1 else None)
    for start in itertools.count():
        with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
            end = agent.run(functools.partial(_run_rank, verb, plain, spec), start, Path(folder))
            run_dir = rank_failures.noted_run(Path(folder))
        if not isinstance(end, Death):
            return end
        if end.trace:
            print(f"{end.what}\n{end.trace}", file=sys.stderr, end="")
        if start == spec.max_restarts:
            _give_up(end, spec)
        plain = as_restarted(plain, run_dir)
        print(f"{end.what}; restart {start + 1} of {spec.max_restarts}, {_from(plain)}", file=sys.stderr)
    raise AssertionError("starts are counted without an end")


def _give_up(end: Death, spec: TrainerSpec) -> NoReturn:
    if end.trace:
        raise Failure(1, end.trace)
    go_on = "What was saved before is kept: resume=must goes on with it"
    fail(f"{end.what}; the others were stopped. {go_on}{', on all machines' if spec.num_nodes > 1 else ''}", 1)


def _open_rendezvous(spec: TrainerSpec) -> Rendezvous:
    log_to_terminal()
    log.info("waiting for %d machines at %s", spec.num_nodes, spec.rdzv_endpoint)
    return Rendezvous.open(*spec.endpoint, spec.num_nodes, spec.timeout)


def _from(plain: dict[str, Any]) -> str:
    """Describe the starting point of a restart."""
    return "from its beginning" if plain["resume"] in ("never", "here") else f"from {plain['resume']}"
