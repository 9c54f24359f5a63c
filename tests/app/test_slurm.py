"""The batch script of docs on a real Slurm of one machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt2_lightning.checkpoints import folder

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 300
"""On a machine that has much else to do."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol")
GPUS = ("/dev/null", "/dev/zero")
"""Files in place of the GPUs that the script requests."""
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={place}/munge.socket
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES
"""


@dataclass(frozen=True)
class Slurm:
    """A controller and a node with four cores and two GPUs, all on this machine."""

    environment: dict[str, str]

    def call(self, *command: str) -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment, timeout=60)
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        shown = self.call("scontrol", "--oneliner", "show", "job", number)
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian's slurmctld, slurmd, slurm-client and munge)")
    if os.geteuid() != 0:
        pytest.skip("daemons of Slurm are started by root alone")
    with tempfile.TemporaryDirectory(prefix="slurm-") as place, contextlib.ExitStack() as daemons:
        environment = {**os.environ, "SLURM_CONF": f"{place}/slurm.conf"}
        configure(Path(place))
        munge = {name: f"--{name}-file={place}/munged.{name}" for name in ("key", "pid", "log", "seed")}
        for command in (
            ("munged", "--foreground", "--force", f"--socket={place}/munge.socket", *munge.values()),
            ("slurmctld", "-D", "-c"),
            ("slurmd", "-D"),
        ):
            daemons.enter_context(running(command, environment))
        started = Slurm(environment)
        wait_until(lambda: "State=IDLE" in started.call("scontrol", "show", "node"))
        yield started


def configure(place: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (first, second)]
    host = socket.gethostname().partition(".")[0]
    (place / "slurm.conf").write_text(CONFIGURATION.format(host=host, ports=ports, place=place))
    (place / "gres.conf").write_text("".join(f"Name=gpu File={file}\n" for file in GPUS))
    (place / "munged.key").touch(0o600)
    (place / "munged.key").write_bytes(secrets.token_bytes(1024))
    for name in ("state", "spool"):
        (place / name).mkdir()
    place.chmod(0o755)  # munged requires it of the folder of its socket


@contextlib.contextmanager
def running(command: tuple[str, ...], environment: dict[str, str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    daemon = subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while True:
        with contextlib.suppress(subprocess.CalledProcessError):  # the controller does not answer yet
            if holds():
                return
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_job_of_slurm_saves_when_its_time_is_up_and_goes_on_when_it_is_queued_again(
    slurm: Slurm, workplace: Path, small_text: Path
) -> None:
    (workplace / ".venv").symlink_to(sys.prefix)
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    devices = ["--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=2", "--output=job.txt"]
    model = ["model=tiny", "tokenizer=char", "data=text", f"data.path={small_text}", "batch_size=4", "cache_dir=cache"]
    trainer = ["trainer.accelerator=cpu", "precision=fp32", "compile=false", "trainer.threads=1"]
    length = ["trainer.max_steps=400", "callbacks.checkpoint.every_n_steps=5", "callbacks.samples.max_new_tokens=20"]
    script = str(ROOT / "docs" / "slurm.sbatch")
    number = slurm.call("sbatch", "--parsable", *devices, script, *model, *trainer, *length).strip()
    run = workplace / "runs" / f"job-{number}"
    try:
        wait_until(lambda: folder.by_step(run))
        assert "TRES=cpu=4" in slurm.call("scontrol", "show", "step", f"{number}.0")  # two of each process
        slurm.call("scancel", "--signal=TERM", number)  # as at the end of its time
        wait_until(lambda: slurm.job(number)["Restarts"] == "1" and slurm.job(number)["JobState"] == "PENDING")
        stopped = folder.step_of(folder.newest(run)) or 0
        # Slurm waits two minutes. A start while the node still ends the script before would fail.
        slurm.call("scontrol", "update", f"JobId={number}", "StartTime=now+20seconds")
        wait_until(lambda: slurm.job(number)["JobState"] == "COMPLETED")
    finally:
        print((workplace / "job.txt").read_text(), slurm.call("scontrol", "show", "job", number))
        slurm.call("scancel", number)
    output = (workplace / "job.txt").read_text()
    assert f"folder: runs/job-{number}, resuming from step-{stopped:06}.ckpt" in output
    assert "step 400 of 400" in output
    assert 5 <= stopped < 400
