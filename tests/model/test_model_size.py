"""Counting parameters, bytes and FLOPs, against OpenAI's figures, a hand count and torch's own counter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.freezing import freeze
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.model.size import count_parameters, flops_per_token, training_bytes, training_work

OPENAI = {
    "gpt2_124m": 124_439_808,
    "gpt2_355m": 354_823_168,
    "gpt2_774m": 774_030_080,
    "gpt2_1558m": 1_557_611_200,
}
TINY = GPT2Config(vocab_size=7, block_size=5, n_layer=2, n_head=3, n_embd=6)


@pytest.mark.parametrize("name", OPENAI)
def test_shipped_sizes_have_openais_parameter_counts_beside_padding(name: str, root: Path) -> None:
    fields = yaml.safe_load((root / "conf" / "model" / f"{name}.yaml").read_text())
    shape = {key: value for key, value in fields.items() if key not in ("defaults", "_target_")}
    config = GPT2Config(**shape)
    padding = (config.vocab_rows - 50257) * config.n_embd
    assert config.vocab_rows == 50304, "a multiple of 64"
    assert count_parameters(config) - padding == OPENAI[name]
    assert count_parameters(dataclasses.replace(config, pad_vocab_to_multiple_of=1)) == OPENAI[name]


@pytest.mark.parametrize(
    ("n_layer", "n_head", "n_embd", "parameters"),
    [
        (12, 12, 768, 124_439_808),
        (24, 16, 1024, 354_823_168),
        (36, 20, 1280, 774_030_080),
        (48, 25, 1600, 1_557_611_200),
    ],
)
def test_parameter_counts_equal_openais(n_layer: int, n_head: int, n_embd: int, parameters: int) -> None:
    assert count_parameters(GPT2Config(n_layer=n_layer, n_head=n_head, n_embd=n_embd)) == parameters


@pytest.mark.parametrize("tied_head", [True, False])
def test_count_equals_what_is_allocated(tied_head: bool) -> None:
    config = dataclasses.replace(TINY, tied_head=tied_head)
    allocated = {parameter.data_ptr(): parameter.numel() for parameter in GPT2(config).parameters()}
    assert count_parameters(config) == sum(allocated.values())


def test_training_takes_four_float32_copies() -> None:
    """Weight, gradient and AdamW's two moments: 7·6 + 5·6 + 2·(12·6² + 13·6) + 2·6 parameters, 4 · 4 bytes each."""
    assert training_bytes(TINY) == 1104 * 4 * 4


def test_flops_by_hand() -> None:
    """A block: 2·(6·18 + 6·6 + 6·24 + 24·6) for the projections, 2·2·5·6 for scores and mixing; the head 2·6·7."""
    block = 2 * (108 + 36 + 144 + 144) + 120
    assert flops_per_token(TINY) == 3 * (2 * block + 84) == 6156


def test_flops_of_gpt2_by_hand() -> None:
    """Six for each weight in a matrix product, 85M in the blocks and 38.6M in the head, and 12·L·C·T of attention."""
    assert flops_per_token(GPT2Config()) == 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 768 * 1024 == 854_438_400


@pytest.mark.parametrize("tied_head", [True, False])
def test_flops_equal_those_that_torch_counts(tied_head: bool) -> None:
    """Forward and backward of the explicit kernels, whose matrix products torch counts one by one."""
    config = GPT2Config(
        vocab_size=23, block_size=11, n_layer=3, n_head=5, n_embd=35, kernels="explicit", tied_head=tied_head
    )
    model = GPT2(config)
    ids = torch.randint(23, (2, 11), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        loss = cross_entropy(model(ids), ids)
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == flops_per_token(config) // 3 * ids.numel()
    assert counter.get_total_flops() == flops_per_token(config) * ids.numel()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("tied_head", [True, False])
def test_work_of_a_part_equals_what_torch_counts(n: int, tied_head: bool) -> None:
    """Of a network whose embeddings and first n blocks are frozen, through which nothing goes backward."""
    config = GPT2Config(vocab_size=23, block_size=11, n_layer=3, n_head=5, n_embd=35, kernels="explicit")
    model = GPT2(dataclasses.replace(config, tied_head=tied_head))
    freeze(model, "first_n_blocks", n)
    ids = torch.randint(23, (2, 11), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(ids), ids).backward()
    assert counter.get_total_flops() == training_work(model).per_token(11) * ids.numel()


@pytest.mark.parametrize("tied_head", [True, False])
def test_work_of_a_whole_network_is_that_of_its_configuration(tied_head: bool) -> None:
    config = dataclasses.replace(TINY, tied_head=tied_head)
    assert training_work(GPT2(config)).per_token(TINY.block_size) == flops_per_token(config)


def test_work_of_an_adapter_is_about_two_thirds() -> None:
    """No gradients of the weights; torch does not go through the first block's first layer, which is counted."""
    config = GPT2Config(vocab_size=23, block_size=11, n_layer=7, n_head=5, n_embd=35, kernels="explicit")
    model = GPT2(config)
    add_lora(model, LoRASpec(rank=2, targets=("q", "v")))
    ids = torch.randint(23, (2, 11), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(ids), ids).backward()
    work = training_work(model).per_token(11) * ids.numel()
    assert work == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert 0.6 < work / (flops_per_token(config) * ids.numel()) < 0.8


def test_a_classifier_does_without_the_head_of_the_language_model() -> None:
    head = 3 * 2 * TINY.vocab_size * TINY.n_embd
    assert training_work(Classifier(GPT2(TINY), 2)).per_token(TINY.block_size) == flops_per_token(TINY) - head


def test_work_grows_with_the_context() -> None:
    work = training_work(GPT2(TINY))
    assert work.per_token(5) - work.per_token(2) == 3 * 3 * 4 * TINY.n_layer * TINY.n_embd
