"""The largest micro-batch that fits, by numbers and by real steps."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning import memory
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.performance import micro_batch_search
from gpt2_lightning.training.performance.micro_batch_search import find_micro_batch, largest_that_fits
from gpt2_lightning.training.performance.probe import Probe
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.language_modules import task
from tests.training.short_run import BLOCK

SPEC = TrainerSpec(accelerator="cpu")
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is found in /proc")


@pytest.mark.parametrize("share", [1, 2, 12, 13, 60, 64, 97, 360])
def test_the_largest_divisor_is_found_whatever_fits(share: int) -> None:
    for room in range(share + 2):
        tried: list[int] = []

        def fits(rows: int, room: int = room, tried: list[int] = tried) -> bool:
            tried.append(rows)
            return rows <= room

        divisors = [rows for rows in range(1, room + 1) if share % rows == 0]
        assert largest_that_fits(share, fits) == max(divisors, default=None)
        assert len(tried) == len(set(tried)) <= 2 * math.log2(share) + 2
        grown = tried[: next((i for i, rows in enumerate(tried) if rows > room), len(tried))]
        assert all(after >= 2 * before or after == share for before, after in itertools.pairwise(grown))


def test_running_out_of_memory_is_no_failure() -> None:
    cpu = torch.device("cpu")
    assert micro_batch_search._peak_of(lambda: int(torch.empty(2**60).numel()), cpu) is None
    with pytest.raises(RuntimeError, match="shape"):
        micro_batch_search._peak_of(lambda: int((torch.zeros(2, 3) @ torch.zeros(2, 3)).numel()), cpu)


@pytest.fixture
def data(tokens: Tokens) -> TokenDataModule:
    return TokenDataModule([tokens], BLOCK, 12, 1, seed=0)


@needs_proc
def test_all_fits_where_there_is_room(data: TokenDataModule) -> None:
    samples = data.samples
    assert find_micro_batch(task(), data, SPEC, 12, BLOCK) == 12 == data.micro_batch_size
    assert data.samples is samples
    assert data.tokens_seen == 0


@pytest.mark.slow
def test_on_the_cpu_the_rest_is_forecast_from_two_sizes(data: TokenDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of 1 GB that takes 60 MB for a sample, in 1.4 GB beside the headroom: there is room for six."""
    tried: list[int] = []

    def steps(make: Any, of: TokenDataModule, *_: Any) -> Probe:
        tried.append(of.micro_batch_size)
        return Probe(0.1, 0.1, 1_000_000_000 + 60_000_000 * of.micro_batch_size)

    monkeypatch.setattr(micro_batch_search, "probe_steps", steps)
    monkeypatch.setattr(memory, "usable", lambda *_: 1_400_000_000 / (1 - micro_batch_search._HEADROOM))
    assert find_micro_batch(task(), data, SPEC, 60, BLOCK) == 6
    assert find_micro_batch(task(), data, SPEC, 16, BLOCK) == 4
    assert tried == [1, 2] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_run_is_compiled_for_its_own_size_and_not_for_any(
    data: TokenDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[bool] = []
    """Whether each graph that was compiled is for any size."""

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(any(isinstance(value, torch.SymInt) for value in inputs))
        return graph.forward

    compiled = torch.compile(torch.square, backend=backend)

    def steps(make: Any, of: TokenDataModule, *_: Any) -> Probe:
        compiled(torch.zeros(of.micro_batch_size, 3))
        return Probe(0.1, 0.1, 1_000_000_000 + 60_000_000 * of.micro_batch_size)

    monkeypatch.setattr(micro_batch_search, "probe_steps", steps)
    monkeypatch.setattr(memory, "usable", lambda *_: 1_400_000_000 / (1 - micro_batch_search._HEADROOM))
    assert find_micro_batch(task(), data, SPEC, 60, BLOCK) == 6
    compiled(torch.zeros(6, 3))
    assert graphs == [False, False, False]
    compiled(torch.zeros(7, 3))
    assert graphs == [False, False, False, True], "a second size without a reset"


@needs_proc
def test_no_room_for_a_single_sample(data: TokenDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable", lambda *_: 1_000_000)
    with pytest.raises(UserError, match=r"memory .*single sample.*precision=bf16"):
        find_micro_batch(task(), data, SPEC, 12, BLOCK)


def test_a_system_that_does_not_tell_its_memory(data: TokenDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable", lambda *_: None)
    with pytest.raises(UserError, match=r"micro_batch_size=auto: this system does not tell .* give a number, or null"):
        find_micro_batch(task(), data, SPEC, 12, BLOCK)


@needs_proc
def test_memory_in_use_is_that_of_the_process() -> None:
    cpu = torch.device("cpu")
    memory.reset_peak(cpu)
    before, usable = memory.peak(cpu), memory.usable(cpu)
    held = torch.ones(50_000_000)
    peak = memory.peak(cpu)
    assert before is not None
    assert peak is not None
    assert usable is not None
    assert peak - before == pytest.approx(held.numel() * 4, rel=0.05)
    assert before < usable
    assert memory.usable(cpu, processes=4) < usable  # type: ignore[operator]
    del held
    memory.reset_peak(cpu)
    assert memory.peak(cpu) < peak  # type: ignore[operator]
