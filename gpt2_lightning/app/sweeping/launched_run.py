"""Entry point of one run of a grid, called by Hydra's launcher."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gpt2_lightning.app.config.hydra_state import portable_hydra_config
from gpt2_lightning.app.output.exits import SIGNAL_BASE, fault_list
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.sweeping import composition
from gpt2_lightning.app.sweeping.job_process import JobProcess, passing_signals_on
from gpt2_lightning.app.sweeping.progress import progress
from gpt2_lightning.app.sweeping.status import Status, digest_of

log = logging.getLogger(__name__)


def run_job(verb: str, config: DictConfig) -> None:
    """Run one job in a separate process.

    Called by launchers, possibly in another process or on another machine.

    Raises:
        SystemExit: if the run was stopped by Ctrl-C or SIGTERM, which stops the sweep.
    """
    plain, faults = composition.checked(verb, config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    before = Status.read(folder) or Status({}, digest_of(verb, plain))
    if faults:  # for example files or devices that are missing on this machine
        before.now(state="failed", error=fault_list(faults)).write(folder)
        return
    log_to_terminal()
    log.info("\nrun %s: %s", progress(folder), " ".join(f"{key}={value}" for key, value in before.settings.items()))
    jobs: list[JobProcess] = []
    with passing_signals_on(jobs) as received:
        jobs.append(JobProcess(verb, plain | {"run_dir": str(folder)}, portable_hydra_config()))
        for number in received:  # received while the process was starting
            jobs[0].tell(number)
        jobs[0].wait()
    if received:
        raise SystemExit(SIGNAL_BASE + received[0])
