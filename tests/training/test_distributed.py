import socket
from datetime import timedelta

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.interrupts import Interrupted, SignalWatch

TORCHRUN: dict[str, int | str] = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": 5,
    "WORLD_SIZE": 6,
    "LOCAL_RANK": 2,
    "LOCAL_WORLD_SIZE": 3,
}
SRUN: dict[str, int | str] = {
    "SLURM_STEP_NUM_TASKS": 6,
    "SLURM_STEP_NUM_NODES": 2,
    "SLURM_NTASKS": 6,
    "SLURM_NTASKS_PER_NODE": 3,
    "SLURM_PROCID": 5,
    "SLURM_LOCALID": 2,
}


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, int | str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("started_by", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_a_process_finds_its_place(monkeypatch: pytest.MonkeyPatch, started_by: dict[str, int | str]) -> None:
    set_environment(monkeypatch, started_by)
    assert (distributed.rank(), distributed.world_size(), distributed.local_world_size()) == (5, 6, 3)
    assert not distributed.is_rank_zero()


def test_a_script_of_slurm_that_starts_one_process_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside sbatch without srun the variables tell of tasks that nobody has started."""
    set_environment(monkeypatch, {"SLURM_NTASKS": 6, "SLURM_PROCID": 0, "SLURM_LOCALID": 0})
    assert distributed.environment() is None
    assert (distributed.rank(), distributed.world_size(), distributed.local_world_size()) == (0, 1, 1)


def test_a_busy_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        set_environment(monkeypatch, {**SRUN, **meet, "SLURM_STEP_NUM_NODES": 1, "SLURM_PROCID": 0})
        with pytest.raises(UserError, match=rf"port {port} of 127\.0\.0\.1, where the processes meet, is in use"):
            distributed.join(on_cuda=False, timeout=timedelta(seconds=5))


def test_a_process_by_itself_agrees_with_itself() -> None:
    assert distributed.is_rank_zero()
    assert distributed.broadcast(lambda: "yes") == "yes"
    assert distributed.all_gather(7) == [7]
    assert distributed.largest(7) == 7
    with distributed.rank_zero_first():
        distributed.barrier()
    distributed.leave_together()


def test_one_of_several_may_hear_of_a_signal_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Ctrl-C: from the terminal and from what started it. A second one comes later."""
    set_environment(monkeypatch, TORCHRUN)
    times = iter((100.0, 100.1, 101.9, 102.1))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    watch = SignalWatch()
    for _ in range(3):
        watch._handle(2, None)
    with pytest.raises(Interrupted):
        watch._handle(2, None)
