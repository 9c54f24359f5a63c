"""Our GPT-2 computes what Hugging Face's computes, and planted errors show.

All layers and heads of the shipped sizes, with heads of 3 channels. Rounding then differs by 2e-6 in the deepest, a
fifth of what is allowed, and the mildest planted error by more than 1e-4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from gpt2_lightning.huggingface import config_from_huggingface, config_to_huggingface, from_huggingface, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model.kernels import KERNELS

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
SIZES = {"gpt2_124m": (12, 12), "gpt2_355m": (24, 16), "gpt2_774m": (36, 20), "gpt2_1558m": (48, 25)}
"""Layers and heads."""
HEAD_SIZE = 3
PROJECTION = "transformer.h.1.attn.c_proj.weight"
"""A square one: its shape does not tell whether it is transposed."""


@dataclass(frozen=True)
class Reference:
    """A random model of theirs and what it answers."""

    config: GPT2Config
    weights: dict[str, Tensor]
    ids: Tensor
    logits: Tensor
    loss: Tensor
    attentions: tuple[Tensor, ...]


@torch.no_grad()
def make_reference(n_layer: int, n_head: int, tied_head: bool = True) -> Reference:
    config = GPT2Config(
        vocab_size=101,
        block_size=17,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=HEAD_SIZE * n_head,
        tied_head=tied_head,
    )
    torch.manual_seed(0)
    fields = config_to_huggingface(config)
    theirs = GPT2LMHeadModel(TheirConfig(**fields, attn_implementation="eager")).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith(".bias"):
            parameter.normal_(std=0.1)
        elif ".ln_" in name:
            parameter.normal_(mean=1, std=0.1)
        else:
            parameter.mul_(5)
    ids = torch.randint(config.vocab_size, (3, config.block_size))
    answer = theirs(ids, labels=ids, output_attentions=True)
    return Reference(config, theirs.state_dict(), ids, answer.logits, answer.loss, answer.attentions)


@pytest.fixture(scope="module", params=SIZES)
def reference(request: pytest.FixtureRequest) -> Reference:
    return make_reference(*SIZES[request.param])


@torch.no_grad()
def assert_parity(model: GPT2, reference: Reference) -> None:
    logits = model.eval()(reference.ids)
    torch.testing.assert_close(logits, reference.logits, **TOLERANCE)
    torch.testing.assert_close(cross_entropy(logits[:, :-1], reference.ids[:, 1:]), reference.loss, **TOLERANCE)


def assert_no_parity(model: GPT2, reference: Reference) -> None:
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_parity(model, reference)


def test_sizes_are_those_shipped(root: Path) -> None:
    shipped = {}
    for path in (root / "conf" / "model").glob("gpt2_*.yaml"):
        fields = yaml.safe_load(path.read_text())
        shipped[path.stem] = (fields["n_layer"], fields["n_head"])
    assert shipped == SIZES


@pytest.mark.parametrize("kernels", KERNELS)
def test_logits_and_loss_agree(reference: Reference, kernels: str) -> None:
    model = from_huggingface(reference.weights, dataclasses.replace(reference.config, kernels=kernels))
    assert reference.logits.std() > 0.5
    assert_parity(model, reference)


@pytest.mark.parametrize("kernels", KERNELS)
def test_logits_and_loss_agree_with_an_untied_head(kernels: str) -> None:
    reference = make_reference(3, 5, tied_head=False)
    assert not torch.equal(reference.weights["lm_head.weight"], reference.weights["transformer.wte.weight"])
    assert_parity(
        from_huggingface(reference.weights, dataclasses.replace(reference.config, kernels=kernels)), reference
    )


def test_recorded_attention_agrees(reference: Reference) -> None:
    record: list[Tensor] = []
    with torch.no_grad():
        from_huggingface(reference.weights, reference.config).eval()(reference.ids, attn_weights=record)
    assert len(record) == len(reference.attentions) == reference.config.n_layer
    for ours, theirs in zip(record, reference.attentions, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_exact_gelu_is_noticed(reference: Reference, kernels: str) -> None:
    config = dataclasses.replace(reference.config, kernels=kernels, gelu="exact")
    assert_no_parity(from_huggingface(reference.weights, config), reference)


def test_one_missing_transpose_is_noticed(reference: Reference) -> None:
    weights = {**reference.weights, PROJECTION: reference.weights[PROJECTION].t()}
    assert_no_parity(from_huggingface(weights, reference.config), reference)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_another_epsilon_is_noticed(reference: Reference, epsilon: float) -> None:
    config = dataclasses.replace(reference.config, layer_norm_epsilon=epsilon)
    assert_no_parity(from_huggingface(reference.weights, config), reference)


def test_another_number_of_heads_is_noticed(reference: Reference) -> None:
    config = dataclasses.replace(reference.config, n_head=HEAD_SIZE)
    assert_no_parity(from_huggingface(reference.weights, config), reference)


def test_exchanged_queries_and_keys_are_noticed(reference: Reference) -> None:
    weights = dict(reference.weights)
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias"):
        q, k, v = weights[name].chunk(3, dim=-1)
        weights[name] = torch.cat((k, q, v), dim=-1)
    assert_no_parity(from_huggingface(weights, reference.config), reference)


def theirs_from(weights: Mapping[str, Tensor], config: GPT2Config) -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(config), attn_implementation="eager"))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config.tied_head else [])
    return model.eval()


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("tied_head", [True, False])
def test_an_exported_model_answers_the_same_there(tied_head: bool, qkv_bias: bool) -> None:
    config = GPT2Config(
        vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35, tied_head=tied_head, qkv_bias=qkv_bias
    )
    torch.manual_seed(0)
    model = GPT2(config).eval()
    ids = torch.randint(23, (2, 13))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        theirs = theirs_from(to_huggingface(model), config)(ids).logits
        torch.testing.assert_close(theirs, model(ids), **TOLERANCE)


@pytest.mark.parametrize("tied_head", [True, False])
def test_there_and_back_is_the_same_bit_for_bit(tied_head: bool) -> None:
    config = GPT2Config(vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35, tied_head=tied_head)
    torch.manual_seed(0)
    model = GPT2(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    theirs = theirs_from(to_huggingface(model), config)
    back = from_huggingface(theirs.state_dict(), config_from_huggingface(theirs.config.to_dict()))
    assert back.config == config
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
