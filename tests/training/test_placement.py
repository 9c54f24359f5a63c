"""Devices, machines and processes that do not go together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.trainer import TrainerSpec
from tests.planted_gpus import plant_gpus
from tests.training.process_environment import SRUN, TORCHRUN, set_environment


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_nodes": 2}, "num_nodes: 2 machines need as many processes; use trainer=multi_node"),
        ({"max_restarts": 1}, "max_restarts: 1 is for processes that are started here; use trainer=ddp or fsdp"),
        ({"devices": 2}, "devices: 2 need as many processes; use trainer=ddp, or ddp_cpu without GPUs"),
        ({"strategy": "ddp", "num_nodes": 0}, "num_nodes: 0 is out of range"),
        ({"strategy": "fsdp", "accelerator": "mps"}, "accelerator: mps has one device and fsdp is for several"),
        ({"strategy": "fsdp", "accelerator": "cuda"}, "this machine has no cuda, .* use trainer=fsdp_cpu"),
        (
            {"reshard_after_forward": False},
            "reshard_after_forward: false is for fsdp and hsdp, and the strategy is sin",
        ),
        ({"rdzv_endpoint": "a:b"}, "rdzv_endpoint: 'a:b' is not of the form HOST:PORT"),
        ({"rdzv_endpoint": "a:0"}, "rdzv_endpoint: 'a:0' is not of the form HOST:PORT"),
    ],
)
def test_what_cannot_be_is_named(settings: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=expected):
        TrainerSpec(**{"accelerator": "cpu", **settings})


def test_machines_and_devices_make_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrainerSpec(accelerator="cpu", strategy="fsdp", devices=3, num_nodes=2, rdzv_endpoint="first.machine:29400")
    assert (spec.processes(), spec.processes_here(), spec.endpoint) == (6, 3, ("first.machine", 29400))
    assert TrainerSpec(accelerator="cpu").processes() == 1
    plant_gpus(monkeypatch, 5)
    assert TrainerSpec(accelerator="cuda", strategy="ddp", num_nodes=3).processes() == 15


@pytest.mark.parametrize("started_by", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_machines_that_were_started_are_counted(
    monkeypatch: pytest.MonkeyPatch, started_by: dict[str, int | str]
) -> None:
    """Three processes on each of two."""
    set_environment(monkeypatch, started_by)
    assert TrainerSpec(accelerator="cpu", strategy="ddp", num_nodes=2, under_srun=True).processes() == 6
    with pytest.raises(UserError, match=r"3 machines .* 2"):
        TrainerSpec(accelerator="cpu", strategy="ddp", num_nodes=3).processes()


def test_a_place_to_meet_has_to_be_named() -> None:
    with pytest.raises(UserError, match="2 machines need a place to meet"):
        _ = TrainerSpec(accelerator="cpu", strategy="ddp", num_nodes=2).endpoint


def test_two_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_gpus(monkeypatch, 2)
    set_environment(monkeypatch, TORCHRUN)
    with pytest.raises(
        UserError, match=r"3 processes .* for 2 devices \(0: NVIDIA H200 \(151 GB\), 1: .* cannot share"
    ):
        TrainerSpec(accelerator="cuda", strategy="ddp").processes()


def test_a_forgotten_srun_is_noticed() -> None:
    with pytest.raises(UserError, match="srun has not started this program as one of several"):
        TrainerSpec(accelerator="cpu", strategy="ddp", under_srun=True).processes()
