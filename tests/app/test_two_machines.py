"""Programs that find each other: under srun, and on two machines that are network namespaces of this one."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt2_lightning.checkpoints import folder
from tests.programs import Program, join_network, running

PORT = 29400
SECONDS_TO_START = 300
"""On a machine that has much else to do."""
SETTINGS = ["model=tiny", "batch_size=4", "callbacks.samples.max_new_tokens=20", "callbacks.checkpoint.every_n_steps=5"]


@pytest.fixture
def start(workplace: Path) -> Iterator[Callable[..., Program]]:
    """Start training; what it says goes into a file."""
    with contextlib.ExitStack() as started:

        def do(name: str, *settings: str, enter: Callable[[], None] | None = None, **variables: object) -> Program:
            environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
            output = workplace / f"{name}.out"
            program = running("train", *SETTINGS, *settings, output=output, environment=environment, enter=enter)
            return started.enter_context(program)

        yield do


def outputs(programs: list[Program]) -> list[str]:
    return [program.output() for program in programs]


@pytest.mark.slow
def test_processes_of_srun_with_other_settings_are_told_apart_before_anything_is_written(
    start: Callable[..., Program], workplace: Path, small_text: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tasks = {"SLURM_STEP_NUM_TASKS": 2, "SLURM_NTASKS": 2, "SLURM_STEP_NUM_NODES": 1, "SLURM_NTASKS_PER_NODE": 2}
    where = {"SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "job", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    settings = ["trainer=slurm", "trainer.accelerator=cpu", "data=text", f"data.path={small_text}", "cache_dir=cache"]
    programs = [
        start(
            str(rank), *settings, f"optimizer.lr={rate}",
            **tasks, **where, SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NODEID=0,
        )
        for rank, rate in enumerate(("0.001", "0.002"))
    ]  # fmt: skip
    assert [program.wait(SECONDS_TO_START) for program in programs] == [2, 2], outputs(programs)
    for program in programs:
        assert "process 1 was started with other settings than process 0" in program.output()
        assert "optimizer.lr: 0.001 and 0.002" in program.output()
    assert {file.name for file in workplace.iterdir()} == {"0.out", "1.out"}


@dataclass(frozen=True)
class Cable:
    """Two namespaces with a cable between them, at 10.77.0.1 and 10.77.0.2."""

    names: tuple[str, str]

    def plug(self, state: str) -> None:
        """`down` cuts it, `up` joins it again."""
        ip("-n", self.names[0], "link", "set", "cable", state)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("two machines are made by ip netns, which needs Linux, iproute2 and root")
    mark = uuid.uuid4().hex[:8]
    names = (f"one-{mark}", f"two-{mark}")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ends = [["name", "cable", "netns", name] for name in names]
            ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system lets nobody make network namespaces: {error.stderr.decode().strip()}")
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield Cable(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_machines_train_notice_a_cut_cable_and_go_on(
    cable: Cable, start: Callable[..., Program], workplace: Path, small_text: Path
) -> None:
    run = workplace / "here"

    def start_both(*settings: str) -> list[Program]:
        common = ["trainer=multi_node", "trainer.accelerator=cpu", f"trainer.rdzv_endpoint=10.77.0.1:{PORT}"]
        text = ["data=text", f"data.path={small_text}", "run_dir=here"]
        return [
            start(name, *common, *text, *settings, enter=functools.partial(join_network, name)) for name in cable.names
        ]

    programs = start_both("trainer.max_steps=99999", "trainer.timeout=8")
    programs[0].wait_until(lambda: folder.by_step(run), SECONDS_TO_START)
    cable.plug("down")
    assert [program.wait(SECONDS_TO_START) for program in programs] == [1, 1], outputs(programs)
    for output in outputs(programs):
        assert "lost the others: they ended, could not be reached, or did not answer for 8 seconds" in output
        assert output.strip().endswith("resume=must goes on with it, on all machines")
        assert "Traceback" not in output
    cable.plug("up")
    reached = folder.step_of(folder.newest(run)) or 0
    programs = start_both(f"trainer.max_steps={reached + 5}", "trainer.val_check_interval=5", "resume=here")
    assert [program.wait(SECONDS_TO_START) for program in programs] == [0, 0], outputs(programs)
    leading, following = outputs(programs)
    assert re.search(rf"folder: here, resuming from step-0*{reached}\.ckpt", leading)
    assert f"step {reached + 5} of {reached + 5}".replace(",", "") in leading.replace(",", "")
    assert "plan: " not in following
    assert folder.step_of(folder.newest(run)) == reached + 5
