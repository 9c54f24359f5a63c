"""Plans for GPUs, on a machine without any: what fills their memory, and what would be faster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpt2_lightning.app.run.estimate import batch_sizes, fill_memory

Run = Callable[..., Any]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that patches torch.cuda to report H100s: free bytes, count and compute capability of each."""

    def there(free: int, count: int = 1, capability: tuple[int, int] = (9, 0)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, 2 * free))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)

    return there


def plan(run_verb: Run, text: Path, *settings: str) -> str:
    tiny = ["model=tiny", "data=text", f"data.path={text}", "batch_size=12", "trainer.max_steps=5", "plan=true"]
    outcome = run_verb("train", *tiny, *settings)
    assert outcome.code == 0, outcome
    return " ".join(outcome.out.split())


def needs(words: str) -> int:
    """Bytes of a step by the report."""
    number, unit = re.search(r"together ([\d.]+) (MB|GB)", words).groups()  # type: ignore[union-attr]  # it is there
    return int(float(number) * {"MB": 1e6, "GB": 1e9}[unit])


@pytest.mark.slow
def test_micro_batches_fill_the_memory_that_is_free(run_verb: Run, small_text: Path, gpus: Callable[..., None]) -> None:
    gpus(10**10)
    whole = plan(run_verb, small_text)
    assert "a step one micro-batch of 12" in whole
    assert "in bf16" in whole
    half = plan(run_verb, small_text, "micro_batch_size=6")
    gpus(int((needs(half) + needs(whole)) / 2 / 0.8))
    assert "a step 2 micro-batches of 6" in plan(run_verb, small_text)
    gpus(1)
    assert "a step 12 micro-batches of 1" in plan(run_verb, small_text)


def test_a_resumed_run_keeps_its_micro_batch_and_others_save_theirs() -> None:
    settings: Any = SimpleNamespace(micro_batch_size=None)
    job: Any = SimpleNamespace(data=SimpleNamespace(batch_size=12, micro_batch_size=1))
    spec: Any = SimpleNamespace(on_cuda=True, processes=lambda: 2)
    fill_memory(settings, job, spec, {"micro_batch_size": 3})
    assert batch_sizes(settings, job, spec) == {"batch_size": 12, "batch_tokens": None, "micro_batch_size": 3}
    spec.on_cuda = False
    fill_memory(settings, job, spec, {"micro_batch_size": 2})
    assert job.data.micro_batch_size == 3, "on a CPU it is what the configuration gives"
    assert batch_sizes(settings, job, spec) == {"batch_size": 12, "batch_tokens": None}


@pytest.mark.slow
def test_settings_that_leave_speed_on_the_table_are_named(
    run_verb: Run, small_text: Path, gpus: Callable[..., None]
) -> None:
    gpus(10**10, count=2)
    slow = ["precision=fp32", "micro_batch_size=3", "model.kernels=explicit"]
    faster = plan(run_verb, small_text, *slow).partition(" Faster ")[2]
    for setting in ("compile=true", "precision=bf16", "micro_batch_size=null", "model.kernels=fused", "trainer=ddp"):
        assert setting in faster
    assert re.search(r"model.pad_vocab_to_multiple_of=64 a head of \d+ rows", faster)
    best = ["compile=true", "model.pad_vocab_to_multiple_of=64", "trainer=ddp", "batch_size=24"]
    faster = plan(run_verb, small_text, *best).partition(" Faster ")[2]
    assert re.match(r"set because batch_size=48 or more: a step has 12 samples for each GPU", faster)
    assert "=true" not in faster
    gpus(10**6, count=2)
    assert " Faster " not in plan(run_verb, small_text, *best), "the memory is full"


def test_a_gpu_without_bfloat16_gets_float16_and_no_advice_of_what_it_lacks(
    run_verb: Run, small_text: Path, gpus: Callable[..., None]
) -> None:
    gpus(10**10, capability=(7, 5))
    words = plan(run_verb, small_text)
    assert "in fp16" in words
    assert "precision=bf16" not in words


@pytest.mark.parametrize("has", [True, False])
def test_a_plan_on_a_cpu_names_its_instructions_and_idle_cores(
    run_verb: Run, small_text: Path, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2 * torch.get_num_threads()), raising=False)
    words = plan(run_verb, small_text, "trainer=cpu")
    assert ("precision=bf16 this CPU has instructions for bfloat16, which may be faster than fp32" in words) == has
    assert f"trainer.threads={2 * torch.get_num_threads()} the run uses" in words
    assert "compile" not in words.partition(" Faster ")[2]
