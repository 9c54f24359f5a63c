"""The whole network: shapes, causality, initialization, dropout, cache and recorded attention."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from gpt2_lightning.model import GPT2, GPT2Config, KVCache, cross_entropy
from gpt2_lightning.model.gpt2 import MLP, AttentionContext, CausalSelfAttention
from gpt2_lightning.model.kernels import KERNELS
from gpt2_lightning.model.positions import POSITIONS

PRIMES = GPT2Config(vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35)
B, T, C, H, V = 2, 11, 35, 5, 23


every_variant = pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(PRIMES, positions=positions, kernels=kernels)
        for positions in POSITIONS
        for kernels in KERNELS
    ],
    ids=lambda config: f"{config.positions}-{config.kernels}",
)


def large_weights(config: GPT2Config) -> GPT2:
    """Random weights, five times their usual size, in float64: mistakes show, rounding does not."""
    torch.manual_seed(0)
    model = GPT2(config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.mul_(5)
    return model


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


@every_variant
def test_shapes(config: GPT2Config, ids: Tensor) -> None:
    model = GPT2(config)
    record: list[Tensor] = []
    assert model.features(ids, attn_weights=record).shape == (B, T, C)
    assert [tuple(weights.shape) for weights in record] == [(B, H, T, T)] * 3
    assert model(ids).shape == (B, T, V)
    assert model(ids[:, :1]).shape == (B, 1, V)


@every_variant
def test_a_changed_token_changes_no_earlier_logits(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    before = model(ids)
    for place in range(T):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        difference = (model(changed) - before).abs().amax(dim=-1)
        assert (difference[:, :place] == 0).all()
        assert (difference[:, place:] > 1e-6).all()


@every_variant
def test_texts_of_a_batch_do_not_mix(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    torch.testing.assert_close(model(ids)[1:], model(ids[1:]), rtol=0, atol=1e-12)


@every_variant
def test_cached_logits_equal_uncached_at_every_step(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    cache = KVCache(config, B, ids.device, torch.float64)
    end = 0
    for step in (3, 1, 1, 4, 1, 1):
        logits = model(ids[:, end : end + step], cache=cache)
        end += step
        assert cache.lengths == [end, end]
        torch.testing.assert_close(logits, model(ids[:, :end])[:, -step:], rtol=0, atol=1e-12)
    assert end == T


@every_variant
def test_a_cleared_cache_reads_anew(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    cache = KVCache(config, B, ids.device, torch.float64)
    model(ids, cache=cache)
    cache.reset()
    other = ids.flip(1)
    torch.testing.assert_close(model(other, cache=cache), model(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", POSITIONS)
def test_kernels_agree_in_logits_and_in_every_gradient(positions: str, ids: Tensor) -> None:
    results = []
    for kernels in ("fused", "explicit"):
        model = large_weights(dataclasses.replace(PRIMES, positions=positions, kernels=kernels))
        logits = model(ids)
        cross_entropy(logits[:, :-1], ids[:, 1:]).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((logits.detach(), gradients))
    (fused_logits, fused_gradients), (explicit_logits, explicit_gradients) = results
    torch.testing.assert_close(fused_logits, explicit_logits, rtol=0, atol=1e-12)
    for name, gradient in fused_gradients.items():
        assert gradient is not None, name
        assert gradient.abs().max() > 1e-5, name
        torch.testing.assert_close(gradient, explicit_gradients[name], rtol=0, atol=1e-7, msg=name)


@every_variant
def test_recorded_attention_is_a_causal_distribution(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    record: list[Tensor] = []
    recorded = model(ids, attn_weights=record)
    torch.testing.assert_close(recorded, model(ids), rtol=0, atol=0)
    assert len(record) == config.n_layer
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    for weights in record:
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (weights[..., ahead] == 0).all()
        assert (weights[..., ~ahead] > 0).all()
    assert not torch.allclose(record[0], record[1], atol=1e-3)


@every_variant
def test_recorded_attention_after_a_cache_is_the_last_rows(config: GPT2Config, ids: Tensor) -> None:
    model = large_weights(config)
    whole: list[Tensor] = []
    part: list[Tensor] = []
    model(ids, attn_weights=whole)
    cache = KVCache(config, B, ids.device, torch.float64)
    model(ids[:, :8], cache=cache)
    model(ids[:, 8:], cache=cache, attn_weights=part)
    for all_rows, last_rows in zip(whole, part, strict=True):
        assert last_rows.shape == (B, H, 3, T)
        torch.testing.assert_close(last_rows, all_rows[:, :, 8:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("positions", POSITIONS)
def test_parameter_count_by_hand(positions: str, tied_head: bool, qkv_bias: bool) -> None:
    config = dataclasses.replace(PRIMES, positions=positions, tied_head=tied_head, qkv_bias=qkv_bias)
    attention = 35 * 105 + 105 * qkv_bias + 35 * 35 + 35
    mlp = 35 * 140 + 140 + 140 * 35 + 35
    norms = 4 * 35
    expected = 23 * 35 * (1 if tied_head else 2) + 13 * 35 * (positions == "learned")
    expected += 3 * (attention + mlp + norms) + 2 * 35
    assert sum(parameter.numel() for parameter in GPT2(config).parameters()) == expected


def test_a_tied_head_is_the_embedding() -> None:
    model = GPT2(PRIMES)
    assert model.lm_head.weight is model.wte.weight
    assert "lm_head.weight" not in dict(model.named_parameters())


def test_an_untied_head_is_trained_by_itself(ids: Tensor) -> None:
    model = large_weights(dataclasses.replace(PRIMES, tied_head=False))
    assert not torch.equal(model.lm_head.weight, model.wte.weight)
    before = model.features(ids)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    torch.testing.assert_close(model.features(ids), before, rtol=0, atol=0)
    assert (model(ids) == 0).all()


def test_parameters_have_openai_names() -> None:
    block = [
        *("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias"),
        *("attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias"),
        *("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"),
    ]
    outside = ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"]
    expected = {*outside, *(f"h.{i}.{name}" for i in range(3) for name in block)}
    assert {name for name, _ in GPT2(PRIMES).named_parameters()} == expected


@pytest.mark.parametrize("kernels", KERNELS)
def test_without_qkv_bias_it_computes_as_with_a_zero_one(kernels: str, ids: Tensor) -> None:
    without = large_weights(dataclasses.replace(PRIMES, qkv_bias=False, kernels=kernels))
    assert not [name for name, _ in without.named_parameters() if name.endswith("c_attn.bias")]
    zero = large_weights(dataclasses.replace(PRIMES, kernels=kernels))
    zeros = {f"h.{i}.attn.c_attn.bias": torch.zeros(3 * C) for i in range(3)}
    zero.load_state_dict({**without.state_dict(), **zeros})
    torch.testing.assert_close(without(ids), zero(ids), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_layer", "initializer_range"), [(2, 0.02), (8, 0.05)])
def test_initial_weights_have_gpt2s_spread(n_layer: int, initializer_range: float) -> None:
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=211, block_size=64, n_layer=n_layer, n_head=2, n_embd=64, tied_head=False)
    model = GPT2(dataclasses.replace(shape, initializer_range=initializer_range))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif ".ln_" in name or name == "ln_f.weight":
            assert (parameter == 1).all(), name
        else:
            into_the_stream = name.endswith("c_proj.weight")
            expected = initializer_range / (math.sqrt(2 * n_layer) if into_the_stream else 1)
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(parameter.mean().item()) < expected * 0.08, name
            within_one_deviation = (parameter.abs() < expected).double().mean().item()
            assert within_one_deviation == pytest.approx(0.6827, abs=0.04), name


def test_an_initial_model_knows_nothing(ids: Tensor) -> None:
    """Its loss is that of a uniform guess, ln V."""
    torch.manual_seed(0)
    loss = cross_entropy(GPT2(PRIMES)(ids[:, :-1]), ids[:, 1:])
    assert loss.item() == pytest.approx(math.log(V), abs=0.1)


@every_variant
def test_context_may_be_full_and_not_fuller(config: GPT2Config) -> None:
    model = GPT2(config)
    assert model(torch.zeros(1, 13, dtype=torch.int64)).shape == (1, 13, V)
    with pytest.raises(ValueError, match=r"^14 tokens .*block_size.* 13"):
        model(torch.zeros(1, 14, dtype=torch.int64))


def test_cached_tokens_count_towards_the_context() -> None:
    model = GPT2(PRIMES)
    cache = KVCache(PRIMES, 1, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        model(torch.zeros(1, 11, dtype=torch.int64), cache=cache)
        with pytest.raises(ValueError, match=r"^14 tokens do not fit .* block_size is 13"):
            model(torch.zeros(1, 3, dtype=torch.int64), cache=cache)
        assert cache.lengths == [11]
        model(torch.zeros(1, 2, dtype=torch.int64), cache=cache)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("field", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_acts_in_training_only(field: str, kernels: str, ids: Tensor) -> None:
    config = dataclasses.replace(PRIMES, kernels=kernels)
    plain = large_weights(config)
    dropping = large_weights(dataclasses.replace(config, **{field: 0.3}))
    torch.testing.assert_close(dropping(ids), plain(ids), rtol=0, atol=0)
    torch.testing.assert_close(plain.train()(ids), plain.eval()(ids), rtol=0, atol=0)
    dropping.train()
    first, second = dropping(ids), dropping(ids)
    assert (first - plain(ids)).abs().max() > 1e-2
    assert (first - second).abs().max() > 1e-2


def test_embedding_dropout_zeroes_and_scales() -> None:
    config = dataclasses.replace(PRIMES, block_size=101, embd_pdrop=0.25, n_layer=1)
    model = GPT2(config).train()
    seen: list[Tensor] = []
    model.h[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    ids = torch.zeros(7, 101, dtype=torch.int64)
    torch.manual_seed(0)
    model(ids)
    model.eval()(ids)
    dropped, whole = seen
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_residual_dropout_zeroes_and_scales_what_each_part_adds(part: str) -> None:
    config = dataclasses.replace(PRIMES, resid_pdrop=0.25)
    torch.manual_seed(0)
    x = torch.randn(7, 101, C)
    if part == "attention":
        attention = CausalSelfAttention(config, layer_idx=0)
        module: nn.Module = attention
        arguments = (x, AttentionContext(torch.arange(101)))
    else:
        module, arguments = MLP(config), (x,)
    dropped = module.train()(*arguments)
    whole = module.eval()(*arguments)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)


def test_a_block_reads_normed_copies_and_adds() -> None:
    """Pre-norm, step by step: x + attn(ln_1(x)), then the same with the MLP."""
    model = large_weights(PRIMES)
    block = model.h[1]
    x = torch.randn(B, T, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def norm(y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        spread = (y.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return (y - y.mean(dim=-1, keepdim=True)) / spread * weight + bias

    context = AttentionContext(torch.arange(T))
    middle = x + block.attn(norm(x, block.ln_1.weight, block.ln_1.bias), context)
    expected = middle + block.mlp(norm(middle, block.ln_2.weight, block.ln_2.bias))
    torch.testing.assert_close(block(x, context), expected, rtol=0, atol=1e-12)


def test_a_deep_copy_computes_the_same_and_shares_nothing() -> None:
    model = GPT2(GPT2Config(vocab_size=31, block_size=7, n_layer=1, n_head=2, n_embd=6)).eval()
    ids = torch.arange(7).unsqueeze(0)
    with torch.no_grad():
        before = model(ids)
        other = copy.deepcopy(model)
        other.wte.weight.zero_()
        assert torch.equal(model(ids), before)
        assert not other(ids).any(), "its head is its own embedding"
