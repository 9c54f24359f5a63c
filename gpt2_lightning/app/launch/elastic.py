"""The start of a run's processes by torch's elastic agent, and what became of them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from hydra.core.hydra_config import HydraConfig
from torch import distributed

from gpt2_lightning.app.config.hydra_state import portable_hydra_config
from gpt2_lightning.app.launch import forkserver
from gpt2_lightning.app.launch.rendezvous import Meeting
from gpt2_lightning.app.output.exits import USER_ERROR, fail
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.rank_failures import Death
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.trainer import TrainerSpec

_SECONDS_BETWEEN_LOOKS = 0.1
_HANDLED = [signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if n in signal.Signals.__members__]


@dataclass(frozen=True)
class Agent:
    """Starts processes on this machine, as often as it is asked to.

    Args:
        spec: the trainer of the run.
        meeting: where this machine meets others, if there are any.
    """

    spec: TrainerSpec
    meeting: Meeting | None

    def run(self, work: Callable[[], Any], start: int, folder: Path) -> Any:
        """Let all processes do the same, and wait until they have.

        Args:
            work: what each does; it is pickled.
            start: how often they were started before.
            folder: for what they leave, see `rank_reports`.

        Returns:
            What work returned in the first process, None on machines that do not have that; or how they died.

        Raises:
            UserError: the first that one of the processes raised.
            SystemExit: with the exit code of processes that were stopped.
        """
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch

        for name in ("torch.distributed.elastic", "torch.multiprocessing"):
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False  # what they say is told here
        forkserver.preload()
        config = self._config(start, folder)
        job = None if HydraConfig.instance().cfg is None else portable_hydra_config()
        try:
            with keeping_handlers():
                found = elastic_launch(config, _be_one_of_several)(work, job, folder, dict(os.environ))
        except SignalException as stop:
            code = 128 + stop.sigval
            if any(report.code == code for report in rank_failures.read(folder)):
                raise SystemExit(code) from None
            fail("stopped at once; what was saved before is kept", code)
        except distributed.DistError:
            return Death(f"the machine at {self.spec.rdzv_endpoint}, where all meet, cannot be reached any more")
        except ChildFailedError as failed:
            rank, failure = failed.get_first_failure()
            reports, count = rank_failures.read(folder), self.spec.processes()
            end = rank_failures.cause(reports, rank, failure.exitcode, count, self.spec.timeout)
            if isinstance(end, Death):
                return end
            if end.message:
                raise UserError(end.message) from None
            raise SystemExit(end.code) from None
        return found.get(0)

    def _config(self, start: int, folder: Path) -> Any:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.launcher.api import LaunchConfig

        where: dict[str, Any]
        if self.meeting is None:
            where = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
            where["run_id"] = uuid.uuid4().hex
        else:
            where = {"rdzv_backend": "static", "rdzv_endpoint": f"{self.meeting.host}:{self.meeting.port}"}
            where["rdzv_configs"] = {"rank": self.meeting.number(start), "timeout": self.spec.timeout}
            where["run_id"] = f"start-{start}"
        return LaunchConfig(
            min_nodes=self.spec.num_nodes,
            max_nodes=self.spec.num_nodes,
            nproc_per_node=self.spec.processes_here(),
            max_restarts=0,
            monitor_interval=_SECONDS_BETWEEN_LOOKS,
            start_method=forkserver.METHOD,
            shutdown_timeout=round(self.spec.timeout),
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "log")),
            **where,
        )


def _be_one_of_several(work: Callable[[], Any], job: Any, folder: Path, environment: dict[str, str]) -> Any:
    """A process from its first line to its last; how it ends, unless well, it reports in a file."""
    forkserver.begin(environment)
    HydraConfig.instance().cfg = job
    rank_failures.leave_in(folder)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        return work()
    except SystemExit as stop:
        rank_failures.report(stop.code)
        raise
    except UserError as error:
        rank_failures.report(USER_ERROR, message=str(error))
        _end(USER_ERROR)
    except Exception as error:
        rank_failures.report(1, trace=traceback.format_exc(), error=error)
        if isinstance(error, RuntimeError):
            # It may have lost another process, which is then the one that the agent should see first.
            time.sleep(5 * _SECONDS_BETWEEN_LOOKS)
        _end(1)


def _end(code: int) -> NoReturn:
    """Exit without taking leave of the other processes, for which torch would wait where they do not answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def keeping_handlers() -> Iterator[None]:
    """The agent sets handlers of its own for signals, and leaves them."""
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
