"""One process as rank zero of several, whose collectives communicate nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from gpt2_lightning.training import distributed
from tests.training.process_environment import set_environment


class FakeRanks:
    """Starts torch's fake process group: the backend is not gloo, and every collective returns at once.

    Results are wrong, since other ranks do nothing; what is called, and in which mode, is as on GPUs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def start(self, machines: int, per_machine: int) -> None:
        world_size = machines * per_machine
        ranks = {"RANK": 0, "WORLD_SIZE": world_size, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": per_machine}
        set_environment(self._monkeypatch, {"TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": 0, **ranks})
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
        self._monkeypatch.setattr(distributed, "_talk", dist.group.WORLD)


@pytest.fixture
def fake_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRanks]:
    yield FakeRanks(monkeypatch)
    distributed.leave()
