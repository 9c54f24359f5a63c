"""Start of ranks by torch's elastic agent, and handling of their failures."""

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
from gpt2_lightning.app.launch.rendezvous import Rendezvous
from gpt2_lightning.app.output.exits import SIGNAL_BASE, USER_ERROR, fail, os_error_message
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.rank_failures import Death
from gpt2_lightning.errors import UserError
from gpt2_lightning.signatures import accepted
from gpt2_lightning.training.interrupts import latest_signal
from gpt2_lightning.training.trainer import TrainerSpec

_POLL_SECONDS = 0.1
_HANDLED = [signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if n in signal.Signals.__members__]


@dataclass(frozen=True)
class Agent:
    """Launcher of this machine's ranks, on torch's elastic agent.

    Args:
        spec: settings of the trainer.
        rendezvous: rendezvous of several machines; None for a single machine.
    """

    spec: TrainerSpec
    rendezvous: Rendezvous | None

    def run(self, work: Callable[[], Any], start: int, folder: Path) -> Any:
        """Run a function on all ranks, and wait for them to end.

        Args:
            work: the function, which is pickled.
            start: number of previous starts.
            folder: folder for the reports of the ranks; see `rank_failures`.

        Returns:
            The result of rank zero, or None on other machines; a `Death` if a rank failed.

        Raises:
            UserError: the first one raised by a rank, or if the rendezvous fails.
            SystemExit: if the ranks were stopped, with their exit code.
        """
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous.api import RendezvousError
        from torch.distributed.launcher.api import elastic_launch

        for name in ("torch.distributed.elastic", "torch.multiprocessing"):
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False  # this program prints its own messages
        forkserver.preload()
        config = self._config(start, folder)
        job = None if HydraConfig.instance().cfg is None else portable_hydra_config()
        try:
            with keeping_handlers():
                found = elastic_launch(config, _rank_main)(work, job, folder, dict(os.environ))
        except SignalException as stop:
            forkserver.kill()
            code = 128 + stop.sigval
            if any(report.code == code for report in rank_failures.read(folder)):
                raise SystemExit(code) from None
            fail("stopped at once; what was saved before is kept", code)
        except (distributed.DistError, RendezvousError):
            return rank_failures.lost_others("this machine", self.spec.timeout)
        except EOFError:  # of multiprocessing
            return Death("the server that starts the ranks was killed")
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

        here = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
        alone = {**here, "run_id": uuid.uuid4().hex}
        return LaunchConfig(
            min_nodes=self.spec.num_nodes,
            max_nodes=self.spec.num_nodes,
            nproc_per_node=self.spec.processes_here(),
            max_restarts=0,
            monitor_interval=_POLL_SECONDS,
            start_method=forkserver.METHOD,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "log")),
            **accepted(LaunchConfig, shutdown_timeout=round(self.spec.timeout)),  # 30 seconds in torch 2.11 and earlier
            **(alone if self.rendezvous is None else self.rendezvous.launch_config(start)),
        )


def _rank_main(work: Callable[[], Any], job: Any, folder: Path, environment: dict[str, str]) -> Any:
    """Main function of a rank; a failure is reported in a file, see `rank_failures`."""
    forkserver.enter(environment)
    HydraConfig.instance().cfg = job
    rank_failures.leave_in(folder)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        result = work()
        if (late := latest_signal()) is not None:
            # The run had no step left to stop at. torch would wait until the agent reads the result, which stops as
            # well, or has ended.
            raise SystemExit(SIGNAL_BASE + late)
        return result
    except SystemExit as stop:
        rank_failures.report(stop.code)
        raise
    except UserError as error:
        rank_failures.report(USER_ERROR, message=str(error))
        _end(USER_ERROR)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # others may be those of a connection
            rank_failures.report(USER_ERROR, message=os_error_message(error))
            _end(USER_ERROR)
        rank_failures.report(1, trace=traceback.format_exc(), error=error)
        if isinstance(error, RuntimeError):
            # The cause may be the failure of another rank, which the agent should detect first.
            time.sleep(5 * _POLL_SECONDS)
        _end(1)


def _end(code: int) -> NoReturn:
    """Exit without destroying the process group, which would wait for unresponsive ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def keeping_handlers() -> Iterator[None]:
    """Restore signal handlers, which torch's agent replaces."""
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
