"""Memory that is counted from shapes, against hand counts and against what a process really takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from gpt2_lightning import memory
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.freezing import count_trainable, freeze
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.training.optimizers import AdamW, Muon
from gpt2_lightning.training.performance import memory_estimate
from gpt2_lightning.training.performance.memory_estimate import StepEstimate
from gpt2_lightning.training.trainer import TrainerSpec
from tests.data.token_sequences import sequence_of
from tests.training.language_modules import Make, task
from tests.training.short_run import BLOCK, CONFIG


@pytest.fixture
def data(tokens: Tokens) -> TokenDataModule:
    return TokenDataModule([tokens], BLOCK, 6, 6, seed=0)


def counted(make: Make, data: TokenDataModule, **settings: Any) -> StepEstimate:
    return StepEstimate(make, data, TrainerSpec(accelerator="cpu", **settings))


def test_what_stays_by_hand(data: TokenDataModule) -> None:
    """In float32, AdamW keeps two moments for each parameter and a count of steps for each tensor."""
    held = counted(task(), data).held
    n, tensors = count_parameters(CONFIG), len(list(GPT2(CONFIG).parameters()))
    assert (held.weights, held.gradients, held.optimizer) == (4 * n, 4 * n, 8 * n + 4 * tensors)
    assert held.together == 16 * n + 4 * tensors


def test_bfloat16_takes_half(data: TokenDataModule) -> None:
    half, whole = counted(task(), data, precision="bf16_true").held, counted(task(), data).held
    assert (2 * half.weights, 2 * half.gradients) == (whole.weights, whole.gradients)


@pytest.mark.parametrize("precision", ["fp32", "bf16_true"])
def test_an_average_takes_four_bytes_for_each_trained_weight(data: TokenDataModule, precision: str) -> None:
    def make() -> Any:
        module = task()()
        module.averages_weights = True
        freeze(module.model, "last_n_blocks", 1)
        return module

    held = counted(make, data, precision=precision).held
    with torch.device("meta"):
        trained = count_trainable(make().model)
    assert held.average == 4 * trained
    assert held.together == held.weights + held.gradients + held.optimizer + held.average


def test_muon_keeps_one_number_for_each_of_a_matrix(data: TokenDataModule) -> None:
    in_matrices = 2 * 12 * CONFIG.n_embd**2
    muon, adamw = (counted(task(optimizer=each), data).held.optimizer for each in (Muon(lr=1e-3), AdamW(lr=1e-3)))
    assert adamw - muon == pytest.approx(4 * in_matrices, abs=4 * len(list(GPT2(CONFIG).parameters())))


def test_optimizers_do_not_communicate_while_they_are_counted(data: TokenDataModule) -> None:
    """Muon divides its matrices among ranks, with collectives that a group of another backend than the CPU's lacks."""
    alone = counted(task(optimizer=Muon(lr=1e-3)), data).held
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, "all_gather_into_tensor", None)
            assert counted(task(optimizer=Muon(lr=1e-3)), data).held == alone
        assert dist.get_world_size() == 2, "the group is there again"
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "change",
    [lambda model: freeze(model, "last_n_blocks", 1), lambda model: add_lora(model, LoRASpec(rank=3))],
    ids=["frozen", "lora"],
)
def test_what_is_frozen_has_weights_alone(data: TokenDataModule, change: Callable[[GPT2], Any]) -> None:
    model = GPT2(CONFIG)
    change(model)
    step = counted(task(change=change), data)
    assert step.held.weights == 4 * sum(parameter.numel() for parameter in model.parameters())
    assert step.held.gradients == 4 * count_trainable(model)
    assert 0 < step.held.optimizer - 8 * count_trainable(model) <= 4 * len(list(model.parameters()))
    assert step.activations(5, BLOCK) < counted(task(), data).activations(5, BLOCK)


def test_activations_grow_evenly_with_the_samples(data: TokenDataModule) -> None:
    step = counted(task(dataclasses.replace(CONFIG, block_size=64)), data)
    few, more, many = (step.activations(rows, 64) for rows in (8, 16, 32))
    assert many - more == pytest.approx(2 * (more - few), rel=0.01)
    assert step.activations(8, 64) == few, "nothing is left of what was counted before"
    assert step.activations(8, 64, masked=True) > few


def test_documents_need_no_memory_where_flash_attention_runs(
    data: TokenDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate, "has_flash_attention", lambda *_: True)
    step = counted(task(dataclasses.replace(CONFIG, block_size=64)), data)
    assert step.activations(8, 64, masked=True) == step.activations(8, 64)


def test_recomputed_activations_take_less(data: TokenDataModule) -> None:
    config = dataclasses.replace(CONFIG, block_size=64, n_layer=7)
    whole = counted(task(config), data).activations(8, 64)
    assert (
        counted(task(config, lambda m: setattr(m, "gradient_checkpointing", True)), data).activations(8, 64) < whole / 2
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is found in /proc")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.05), ("bf16", 0.2)])
def test_a_real_step_takes_what_was_counted(tmp_path: Path, precision: Any, tolerance: float) -> None:
    """Where activations are large tensors, which the system takes back at once; kernels have buffers in bf16."""
    config = GPT2Config(vocab_size=66_001, block_size=128, n_layer=1, n_head=2, n_embd=128)
    ids = [i % 7 for i in range(4000)]
    data = TokenDataModule([Tokens(sequence_of(tmp_path, ids, [2000]), sequence_of(tmp_path, ids), {})], 128, 4, 4, 0)
    spec = TrainerSpec(accelerator="cpu", precision=precision)
    expected = StepEstimate(task(config), data, spec).activations(4, 128)
    module, trainer = task(config)(), spec.build(1, 1, [], [])
    trainer.datamodule = data  # type: ignore[attr-defined]
    module.trainer = trainer
    batch, cpu = next(iter(data.train_dataloader())), torch.device("cpu")

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = module.training_step(batch, 0)
        loss.backward()

    step()  # makes the gradients
    memory.reset_peak(cpu)
    before = memory.peak(cpu)
    step()
    after = memory.peak(cpu)
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(expected, rel=tolerance)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is found in /proc")
def test_nothing_is_allocated(data: TokenDataModule) -> None:
    """A model of 2 GB of weights, which with its step would take more than 8 GB."""
    cpu = torch.device("cpu")
    config = dataclasses.replace(CONFIG, n_embd=2048, n_layer=10, vocab_size=997)
    memory.reset_peak(cpu)
    before = memory.peak(cpu)
    step = counted(task(config), data)
    assert step.held.together + step.activations(5, BLOCK) > 8e9
    after = memory.peak(cpu)
    assert before is not None
    assert after is not None
    assert after - before < 2e8
