"""The processes of a run: started here, or found started by torchrun or srun."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from hydra.core.hydra_config import HydraConfig

from gpt2_lightning.app import build
from gpt2_lightning.app.main import USER_ERROR, fail
from gpt2_lightning.app.run_settings import share_of_batch
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import processes
from gpt2_lightning.training.trainer import TrainerSpec

_SECONDS_BETWEEN_LOOKS = 0.1
_HANDLED = [signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if n in signal.Signals.__members__]


def run(verb: str, plain: dict[str, Any]) -> Any:
    """Run a verb that trains, in as many processes as its trainer wants.

    Args:
        verb: its module in this package has a `run`.
        plain: the resolved configuration, checked by preflight, with a trainer.

    Returns:
        What the verb returns in the first process.

    Raises:
        UserError: the first that one of the processes raised.
        SystemExit: with the exit code of a run that was stopped or failed, when everything is said.
    """
    spec = build.make(plain["trainer"])
    count = spec.processes()
    share_of_batch(plain["batch_size"], plain["micro_batch_size"], count)  # now, and not when all have started
    if processes.environment() is None and count > 1:
        return _start(verb, plain, spec, count)
    return _take_part(verb, plain, spec)


def _take_part(verb: str, plain: dict[str, Any], spec: TrainerSpec) -> Any:
    module = importlib.import_module(f"gpt2_lightning.app.{verb}")
    if processes.environment() is None:
        return module.run(plain)
    if not processes.is_first():
        _be_silent()
    processes.join(spec.on_cuda, spec.waits)
    return module.run(plain)


def _be_silent() -> None:
    """Take the place of the terminal among those who hear this package's messages, and leave out all warnings."""
    logging.getLogger("gpt2_lightning").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


def _start(verb: str, plain: dict[str, Any], spec: TrainerSpec, count: int) -> Any:
    """Start the processes by torch's elastic agent, and tell how they ended."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False  # what they say is told here
    with tempfile.TemporaryDirectory(prefix="gpt2-lightning-") as folder, _keeping_handlers():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=_SECONDS_BETWEEN_LOOKS,
            start_method="spawn",
            shutdown_timeout=round(spec.timeout),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        reports = Path(folder)
        try:
            return elastic_launch(config, _be_one_of_several)(verb, plain, HydraConfig.instance().cfg, reports)[0]
        except SignalException as stop:
            code = 128 + stop.sigval
            if any(report["code"] == code for report in _read(reports)):
                raise SystemExit(code) from None
            fail("stopped at once; what was saved before is kept", code)
        except ChildFailedError as failed:
            rank, failure = failed.get_first_failure()
            _tell(_read(reports), rank, failure.exitcode, count)


def _be_one_of_several(verb: str, plain: dict[str, Any], job: Any, reports: Path) -> Any:
    """A process from its first line to its last; how it ends, unless well, it reports in a file."""
    HydraConfig.instance().cfg = job
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        return _take_part(verb, plain, build.make(plain["trainer"]))
    except SystemExit as stop:
        _report(reports, stop.code)
        raise
    except UserError as error:
        _report(reports, USER_ERROR, message=str(error))
        raise SystemExit(USER_ERROR) from None
    except Exception as error:
        _report(reports, 1, trace=traceback.format_exc())
        if isinstance(error, RuntimeError):
            # It may have lost another process, which is then the one that the agent should see first.
            time.sleep(5 * _SECONDS_BETWEEN_LOOKS)
        raise SystemExit(1) from None


def _report(folder: Path, code: Any, message: str = "", trace: str = "") -> None:
    report = {"rank": processes.rank(), "time": time.time(), "code": code, "message": message, "trace": trace}
    temporary = folder / f"{processes.rank()}.tmp"
    temporary.write_text(json.dumps(report), encoding="utf-8")
    temporary.rename(folder / f"{processes.rank()}.json")


def _read(folder: Path) -> list[dict[str, Any]]:
    """The reports, the earliest first: what comes later may follow from it."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    return sorted(reports, key=lambda report: float(report["time"]))


def _tell(reports: list[dict[str, Any]], rank: int, exit_code: int, count: int) -> NoReturn:
    """Say why a run of several processes failed.

    Args:
        reports: of the processes that could say so.
        rank: the process that was found dead.
        exit_code: its exit code; minus the signal where one ended it.
        count: of processes.
    """
    if not reports or (exit_code < 0 and exit_code != -signal.SIGABRT):
        by = f"ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"
        fail(
            f"process {rank} of {count} (from 0) was {by}, perhaps since memory ran out; the others were stopped. "
            "What was saved before is kept: resume=must goes on with it",
            1,
        )
    first = reports[0]
    if first["message"]:
        raise UserError(first["message"])
    if first["trace"]:
        print(f"process {first['rank']} of {count} (from 0) failed\n{first['trace']}", file=sys.stderr, end="")
    raise SystemExit(first["code"])


@contextlib.contextmanager
def _keeping_handlers() -> Iterator[None]:
    """The agent sets handlers of its own for signals, and leaves them."""
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
