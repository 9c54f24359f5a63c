import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.interrupts import Interrupted, SignalWatch
from tests.training.process_environment import SRUN, TORCHRUN, set_environment
from tests.training.two_processes import on_two_processes


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
        with pytest.raises(UserError, match=rf"port {port} of 127\.0\.0\.1.* in use"):
            distributed.join(on_cuda=False, timeout=timedelta(seconds=5))


def test_gpus_without_nccl_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(UserError, match=r"strategy: this torch was built without NCCL.* trainer=gpu for one GPU"):
        distributed.join(on_cuda=True, timeout=timedelta(seconds=5))


def test_two_ranks_on_one_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL compares the GPUs of all ranks when it connects them."""

    def init(*_: Any, **__: Any) -> None:
        raise torch.distributed.DistBackendError("NCCL error: Duplicate GPU detected : rank 1 and rank 0 both on CUDA")

    set_environment(monkeypatch, TORCHRUN)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    monkeypatch.setattr(distributed, "_meeting_place", lambda *_: None)
    monkeypatch.setattr(distributed.dist, "init_process_group", init)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="rank 5 shares its GPU with another rank"):
        distributed.join(on_cuda=True, timeout=timedelta(seconds=5))


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


def meet_and_broadcast() -> list[object]:
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    content: dict[str, Any] | None = None
    if distributed.is_rank_zero():
        matrix = torch.arange(6.0).reshape(2, 3)
        content = {
            "weights": [matrix.T, matrix.to(torch.bfloat16), torch.tensor(7), torch.empty(0), torch.tensor([True])],
            "step": 3,
        }
    received = distributed.broadcast_tensors(content)
    distributed.leave_together()
    return [received["step"], *((t.dtype, t.shape, t.tolist()) for t in received["weights"])]


@pytest.mark.slow
def test_a_checkpoint_reaches_all_ranks(tmp_path: Path) -> None:
    results = on_two_processes(meet_and_broadcast, tmp_path)
    matrix = [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert results[0][:2] == [3, (torch.float32, torch.Size([3, 2]), matrix)]
    assert results[1] == results[0]
