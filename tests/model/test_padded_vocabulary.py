"""Rows that pad the vocabulary: beside a network without them, whatever they hold."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.decoder import generate
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.adapters import adapter_state, add_lora, load_adapter, merge, remove_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.model.size import count_parameters, flops_per_token

PLAIN = GPT2Config(vocab_size=23, block_size=13, n_layer=2, n_head=5, n_embd=35)
PADDED = dataclasses.replace(PLAIN, pad_vocab_to_multiple_of=8)
VOCABULARIES = ("wte.weight", "lm_head.weight")


def pair(tied: bool = True) -> tuple[GPT2, GPT2]:
    """A network, and the same one with a padded vocabulary, whose extra row would win every time."""
    torch.manual_seed(0)
    plain = GPT2(dataclasses.replace(PLAIN, tied_head=tied))
    padded = GPT2(dataclasses.replace(PADDED, tied_head=tied))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(5)
        own = padded.state_dict()
        for name, tensor in plain.state_dict().items():
            own[name][: len(tensor)] = tensor
            own[name][len(tensor) :] = 100.0
    return plain.eval(), padded.eval()


def some_ids() -> Tensor:
    return torch.randint(PLAIN.vocab_size, (3, 13), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("vocab_size", "multiple", "rows"), [(50257, 64, 50304), (50257, 1, 50257), (64, 64, 64), (65, 64, 128), (3, 7, 7)]
)
def test_rows_are_the_next_multiple(vocab_size: int, multiple: int, rows: int) -> None:
    assert GPT2Config(vocab_size=vocab_size, pad_vocab_to_multiple_of=multiple).vocab_rows == rows


def test_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="pad_vocab_to_multiple_of: 0 is out of range, 1 or more is allowed"):
        GPT2Config(pad_vocab_to_multiple_of=0)


def test_extra_rows_begin_at_zero() -> None:
    model = GPT2(dataclasses.replace(PADDED, tied_head=False))
    for name in VOCABULARIES:
        weight = model.get_parameter(name)
        assert weight.shape == (24, 35)
        assert not weight[23:].any()
        assert weight[:23].all()


@pytest.mark.parametrize("tied", [True, False])
def test_logits_loss_and_gradients_are_those_without_padding(tied: bool) -> None:
    plain, padded = pair(tied)
    ids = some_ids()
    assert padded(ids).shape == (3, 13, 23)
    torch.testing.assert_close(padded(ids), plain(ids))
    losses = [model(ids, targets=ids.roll(-1, 1)) for model in (plain, padded)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    for name, parameter in plain.named_parameters():
        found = padded.get_parameter(name).grad
        assert parameter.grad is not None
        assert found is not None
        torch.testing.assert_close(found[: len(parameter)], parameter.grad, msg=name)
        assert not found[len(parameter) :].any(), name


def test_generation_never_draws_a_padding_row() -> None:
    plain, padded = pair()
    for sampling in (Sampling(max_new_tokens=30, temperature=0), Sampling(max_new_tokens=30, temperature=5.0, seed=3)):
        texts = [list(generate(model, some_ids()[0], sampling)) for model in (plain, padded)]
        assert texts[0] == texts[1]


def test_counts_say_what_is_held_and_computed() -> None:
    assert count_parameters(PADDED) - count_parameters(PLAIN) == 35
    with torch.device("meta"):
        model = GPT2(PADDED)
    counter = FlopCounterMode(display=False)
    with counter:
        model.lm_head(torch.empty(1, 1, 35, device="meta"))
    assert flops_per_token(PADDED) - flops_per_token(PLAIN) == 3 * (counter.get_total_flops() - 2 * 23 * 35)


def test_an_adapter_of_the_head_has_no_padding() -> None:
    """So it fits the network without padding, and its files those of others."""
    spec = LoRASpec(rank=2, targets=["q", "head"])
    plain, padded = pair()
    add_lora(padded, spec)
    with torch.no_grad():
        for tensor in adapter_state(padded).values():
            torch.nn.init.normal_(tensor, std=0.1)
    load_adapter(plain, adapter_state(padded), spec)
    ids = some_ids()
    changed = plain(ids)
    assert not torch.allclose(changed, pair()[0](ids), atol=1e-3)
    torch.testing.assert_close(padded(ids), changed)
    merge(padded)
    torch.testing.assert_close(padded(ids), changed, atol=1e-4, rtol=1e-4)
    remove_lora(padded)
    torch.testing.assert_close(padded(ids), changed, atol=1e-4, rtol=1e-4)
