"""Figures of tensors by hand, costs against the model's own counts, and totals against Hugging Face's networks."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from gpt2_lightning.inspection.parameters.tensors import (
    change,
    compare,
    cost,
    kv_cache_bytes_per_token,
    meta_model,
    second_names,
    statistics,
    summarize_tensors,
)
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.kv_cache import KVCache
from gpt2_lightning.model.lora.freezing import freeze
from gpt2_lightning.model.size import count_parameters, training_bytes
from tests.huggingface.networks import CONFIG, lively


def test_a_tensors_values_by_hand() -> None:
    found = statistics(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert found.mean == 3
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 4))
    assert found.norm == pytest.approx(math.sqrt(1 + 4 + 9 + 36))
    assert found.not_finite == 0


def test_a_change_by_hand() -> None:
    found = change(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))
    assert found.relative == pytest.approx(1 / 5)
    assert found.largest == 1
    assert found.cosine == pytest.approx((9 + 20) / (math.sqrt(34) * 5))


def test_a_change_from_and_to_zero() -> None:
    zero, some = torch.zeros(3), torch.ones(3)
    assert change(zero, zero).relative == 0
    assert change(some, zero).relative == math.inf
    assert change(zero, some).relative == 1
    assert all(math.isnan(change(*pair).cosine) for pair in [(zero, zero), (some, zero), (zero, some)])


def test_a_tensor_longer_than_a_part_is_measured_whole() -> None:
    values = torch.randn(2**19 + 17, generator=torch.Generator().manual_seed(0))
    values[-1] = 1000
    found = statistics(values)
    assert found.mean == pytest.approx(float(values.double().mean()))
    assert found.std == pytest.approx(float(values.double().std(correction=0)))
    assert found.norm == pytest.approx(float(values.double().norm()))
    assert change(values, torch.zeros_like(values)).largest == 1000


def test_values_that_are_no_numbers_are_counted() -> None:
    found = statistics(torch.tensor([1.0, math.nan, math.inf, -math.inf]))
    assert found.not_finite == 3
    assert not any(map(math.isfinite, (found.mean, found.std, found.norm)))


def test_half_precision_is_measured_in_double() -> None:
    values = torch.full((1000,), 300.0, dtype=torch.float16)  # the sum of squares would overflow
    assert statistics(values).norm == pytest.approx(300 * math.sqrt(1000))
    assert statistics(values).std == 0


@pytest.mark.parametrize("tied_head", [True, False])
def test_every_parameter_of_a_model_is_there_once(tied_head: bool) -> None:
    model = GPT2(GPT2Config(23, 13, 2, 5, 35, tied_head=tied_head))
    figures = summarize_tensors(model)
    assert {one.name: one.shape for one in figures} == {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert sum(one.count for one in figures) == count_parameters(model.config)
    assert second_names(model) == ({"lm_head.weight": "wte.weight"} if tied_head else {})


@pytest.mark.parametrize(("layers", "heads", "width"), [(12, 12, 768), (48, 25, 1600)])
def test_totals_and_shapes_equal_hugging_faces(layers: int, heads: int, width: int) -> None:
    figures = summarize_tensors(meta_model(GPT2Config(n_layer=layers, n_head=heads, n_embd=width)))
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(TheirConfig(n_layer=layers, n_head=heads, n_embd=width))
    expected = {name.removeprefix("transformer."): sorted(p.shape) for name, p in theirs.named_parameters()}
    assert {one.name: sorted(one.shape) for one in figures} == expected
    assert sum(one.count for one in figures) == theirs.num_parameters()
    assert all(one.statistics is None for one in figures)


def test_a_table_that_is_no_parameter_is_a_buffer() -> None:
    model = GPT2(GPT2Config(23, 13, 1, 5, 35, positions="sinusoidal"))
    kinds = {one.name: one.kind for one in summarize_tensors(model)}
    assert kinds.pop("wpe.table") == "buffer"
    assert set(kinds.values()) == {"trained"}


def test_frozen_tensors_have_no_gradients_and_no_optimizer_state() -> None:
    model = GPT2(CONFIG)
    full = cost(summarize_tensors(model), CONFIG)
    assert full.weights + full.gradients + full.optimizer == training_bytes(CONFIG)
    freeze(model, "last_n_blocks", 1)
    figures = summarize_tensors(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    part = cost(figures, CONFIG)
    assert {one.name for one in figures if one.kind == "frozen"} >= {"wte.weight", "h.0.attn.c_attn.weight"}
    assert (part.weights, part.gradients, part.optimizer) == (full.weights, 4 * trained, 8 * trained)


def test_weights_take_the_bytes_of_their_type() -> None:
    model = lively().bfloat16()
    assert cost(summarize_tensors(model), CONFIG).weights == 2 * count_parameters(CONFIG)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_of_a_token_is_what_the_cache_allocates(dtype: torch.dtype) -> None:
    cache = KVCache(CONFIG, 1, torch.device("cpu"), dtype)
    allocated = sum(held.nbytes for held in (*cache.keys, *cache.values))
    assert kv_cache_bytes_per_token(CONFIG, dtype) * CONFIG.block_size == allocated


def test_a_model_equals_itself() -> None:
    model = lively()
    compared, faults = compare(summarize_tensors(model), model, lively())
    assert faults == []
    assert {(one.change.relative, one.change.largest) for one in compared if one.change} == {(0, 0)}
    assert all(one.change and one.change.cosine == pytest.approx(1) for one in compared)


def test_one_changed_value_is_found() -> None:
    model, other = lively(), lively()
    with torch.no_grad():
        model.h[1].mlp.c_fc.bias[3] += 2
    compared, _ = compare(summarize_tensors(model), model, other)
    changed = {one.name: one.change for one in compared if one.change and one.change.largest > 0}
    assert list(changed) == ["h.1.mlp.c_fc.bias"]
    assert changed["h.1.mlp.c_fc.bias"].largest == pytest.approx(2)
    assert changed["h.1.mlp.c_fc.bias"].relative == pytest.approx(2 / other.h[1].mlp.c_fc.bias.norm().item())


def test_tensors_without_a_partner_are_named() -> None:
    model, other = GPT2(GPT2Config(23, 13, 2, 5, 35)), GPT2(GPT2Config(23, 11, 3, 5, 35, qkv_bias=False))
    compared, faults = compare(summarize_tensors(model), model, other)
    assert "wpe.weight: 13 × 35 here, 11 × 35 in the other" in faults
    assert "h.0.attn.c_attn.bias: not in the other" in faults
    assert "h.2.ln_1.weight: only in the other" in faults
    assert {one.name for one in compared if one.change is None} == {
        "wpe.weight",
        "h.0.attn.c_attn.bias",
        "h.1.attn.c_attn.bias",
    }
