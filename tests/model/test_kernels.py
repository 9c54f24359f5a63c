"""The two kernel sets: against values worked out by hand, against torch, and against each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.model.inference import onednn
from gpt2_lightning.model.kernels import KERNELS, Kernels, explicit

LN2 = math.log(2)


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return KERNELS[request.param]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(found: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_layer_norm_by_hand(kernels: Kernels) -> None:
    """1, 2, 3, 4 have mean 2.5 and biased variance 1.25; with eps 0.3125 the divisor is 1.25."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    bias = torch.tensor([0.5, 0.25, -1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([[-1.2 + 0.5, -4.0 + 0.25, 40.0 - 1.0, 1200.0 + 2.0]], dtype=torch.float64)
    assert_close(kernels.layer_norm(x, (4,), weight, bias, 0.3125), expected)


def test_gelu_by_hand(kernels: Kernels) -> None:
    """The tanh approximation's published values, and those of the normal distribution's table."""
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([-0.1588080094, 0.0, 0.8411919906, 1.9545976940], dtype=torch.float64)
    assert_close(kernels.gelu(x, approximate="tanh"), expected, atol=1e-9)
    exact = torch.tensor([-0.1586552539, 0.0, 0.8413447461, 1.9544997361], dtype=torch.float64)
    assert_close(kernels.gelu(x), exact, atol=1e-9)


def test_attention_by_hand(kernels: Kernels) -> None:
    """With D = 4 a product of 2 ln 2 is a score of ln 2, which weighs twice as much as a score of 0."""
    q = torch.tensor([[9.0, 9.0, 9.0, 9.0], [2 * LN2, 0, 0, 0], [2 * LN2, 0, 0, 0]], dtype=torch.float64)
    k = torch.tensor([[0.0, 0, 0, 0], [1.0, 0, 0, 0], [2.0, 0, 0, 0]], dtype=torch.float64)
    v = torch.tensor([[7.0, 0, 0, 0], [1.0, 3.0, 0, 0], [0.0, 0, 7.0, 0]], dtype=torch.float64)
    expected = torch.tensor(
        [[7.0, 0, 0, 0], [(7 + 2) / 3, 2.0, 0, 0], [(7 + 2) / 7, 6 / 7, 4.0, 0]], dtype=torch.float64
    )
    y = kernels.attention(q.view(1, 1, 3, 4), k.view(1, 1, 3, 4), v.view(1, 1, 3, 4), is_causal=True)
    assert_close(y, expected.view(1, 1, 3, 4))


def test_explicit_agrees_with_torch() -> None:
    x, weight, bias = randn(3, 5, 7), randn(7, seed=1), randn(7, seed=2)
    assert_close(explicit.layer_norm(x, (7,), weight, bias), F.layer_norm(x, (7,), weight, bias))
    assert_close(explicit.gelu(3 * x), F.gelu(3 * x))
    assert_close(explicit.gelu(3 * x, approximate="tanh"), F.gelu(3 * x, approximate="tanh"))
    q, k, v = randn(2, 3, 5, 7), randn(2, 3, 11, 7, seed=1), randn(2, 3, 11, 7, seed=2)
    for is_causal in (True, False):
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        assert_close(explicit.scaled_dot_product_attention(q, k, v, is_causal=is_causal), expected)


def assert_outputs_and_gradients_agree(compute: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Compare compute(kernels, *inputs) of every set of kernels with that of the fused one."""
    results = []
    for kernels in KERNELS.values():
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        y = compute(kernels, *leaves)
        results.append([y.detach(), *torch.autograd.grad(y, leaves, randn(*y.shape, seed=99))])
    fused, *others = results
    for other in others:
        for ours, theirs in zip(fused, other, strict=True):
            assert ours.abs().max() > 1e-3
            assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 1, 768), (3, 7, 768), (768,)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_large_weights_agree_by_onednn(shape: tuple[int, ...], with_bias: bool) -> None:
    """Without gradients another library multiplies; the inputs are strided, as views are."""
    x = randn(*shape[:-1], 2 * shape[-1], seed=1).float()[..., ::2]
    weight = randn(769, 768, seed=2).float()
    bias = randn(769, seed=3).float() if with_bias else None
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    for mode in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with mode:
            y = onednn.linear(x, weight, bias)
        assert (y.shape, y.dtype, y.layout) == (expected.shape, torch.float32, torch.strided)
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-3)


def test_large_weights_obey_autocast() -> None:
    x, weight = randn(1, 768).float(), randn(769, 768).float()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert onednn.linear(x, weight).dtype == torch.bfloat16


def test_layer_norm_agrees_with_gradients() -> None:
    assert_outputs_and_gradients_agree(
        lambda kernels, x, weight, bias: kernels.layer_norm(x, (7,), weight, bias, 1e-5),
        *(randn(3, 5, 7), randn(7, seed=1), randn(7, seed=2)),
    )


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_agrees_with_gradients(approximate: str) -> None:
    assert_outputs_and_gradients_agree(lambda kernels, x: kernels.gelu(x, approximate=approximate), 3 * randn(3, 5, 7))


@pytest.mark.parametrize(("T", "S", "is_causal"), [(7, 7, True), (7, 7, False), (1, 7, False)])
def test_attention_agrees_with_gradients(T: int, S: int, is_causal: bool) -> None:
    q, k, v = randn(2, 3, T, 5), randn(2, 3, S, 5, seed=1), randn(2, 3, S, 5, seed=2)
    assert_outputs_and_gradients_agree(
        lambda kernels, q, k, v: kernels.attention(q, k, v, is_causal=is_causal), 2 * q, k, v
    )


def test_masked_attention_agrees_with_gradients() -> None:
    attn_mask = (torch.rand(2, 1, 3, 11, generator=torch.Generator().manual_seed(3)) < 0.5).index_fill(
        3, torch.tensor([4]), True
    )
    q, k, v = randn(2, 3, 3, 5), randn(2, 3, 11, 5, seed=1), randn(2, 3, 11, 5, seed=2)
    assert_outputs_and_gradients_agree(
        lambda kernels, q, k, v: kernels.attention(q, k, v, attn_mask=attn_mask), 2 * q, k, v
    )


def test_masked_attention_by_hand(kernels: Kernels) -> None:
    """Equal scores give the mean of the values that a query sees, wherever they stand."""
    q, k = torch.zeros(2, 1, 2, 1, dtype=torch.float64), randn(2, 1, 3, 1)
    v = torch.tensor([1.0, 3.0, 11.0], dtype=torch.float64).view(1, 1, 3, 1).expand(2, 1, 3, 1)
    attn_mask = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[1, 0, 1], [1, 1, 1]]], dtype=torch.bool).unsqueeze(1)
    found = kernels.attention(q, k, v, attn_mask=attn_mask)
    assert_close(found.view(2, 2), torch.tensor([[7.0, 1.0], [6.0, 5.0]], dtype=torch.float64))


def test_a_single_token_takes_its_own_value(kernels: Kernels) -> None:
    q, k, v = (randn(2, 3, 1, 5, seed=seed) for seed in range(3))
    assert_close(kernels.attention(q, k, v, is_causal=True), v)
    assert_close(kernels.attention(q, k, v), v)


def test_attention_weights_are_causal_distributions() -> None:
    q, k, v = 2 * randn(2, 3, 7, 5), randn(2, 3, 7, 5, seed=1), randn(2, 3, 7, 5, seed=2)
    weights = explicit.attention_weights(q, k, is_causal=True)
    assert weights.shape == (2, 3, 7, 7)
    assert_close(weights.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))
    for row in range(7):
        assert (weights[:, :, row, row + 1 :] == 0).all()
        assert (weights[:, :, row, : row + 1] > 0).all()
    assert_close(weights @ v, F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_attention_is_finite_for_huge_scores(kernels: Kernels) -> None:
    """The largest key takes all, although exp of its score overflows float32."""
    q = torch.full((1, 1, 3, 1), 100.0)
    k = torch.tensor([1.0, 3.0, 2.0]).view(1, 1, 3, 1)
    v = torch.tensor([5.0, 7.0, 11.0]).view(1, 1, 3, 1)
    assert kernels.attention(q, k, v, is_causal=True).flatten().tolist() == [5.0, 7.0, 7.0]


@pytest.mark.parametrize(("T", "S"), [(61, 61), (31, 61), (1, 61)])
@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_attention_dropout_keeps_and_scales_single_weights(kernels: Kernels, dropout: float, T: int, S: int) -> None:
    """Zero queries weigh all keys of the mask alike, and the identity as values shows the weights themselves."""
    B, H = 7, 11
    torch.manual_seed(0)
    q, k = torch.zeros(B, H, T, 5, dtype=torch.float64), randn(B, H, S, 5)
    v = torch.eye(S, dtype=torch.float64).expand(B, H, S, S)
    attn_mask = torch.ones(S, S, dtype=torch.bool).tril()[S - T :]
    dropped = kernels.attention(q, k, v, attn_mask, dropout)
    visible = attn_mask.expand_as(dropped)
    undropped = visible / visible.sum(-1, keepdim=True, dtype=torch.float64)
    kept = dropped != 0
    assert not kept[~visible].any()
    assert_close(dropped[kept], undropped[kept] / (1 - dropout))
    n = int(visible.sum())
    deviation = math.sqrt(dropout * (1 - dropout) / n)
    assert abs(int(kept.sum()) / n - (1 - dropout)) < 5 * deviation
    assert not torch.equal(kept[0, 0], kept[0, 1])
    assert not torch.equal(kept[0, 0], kept[1, 0])


def test_attention_without_dropout_draws_no_random_numbers(kernels: Kernels) -> None:
    q, k, v = (randn(1, 2, 5, 3, seed=seed) for seed in range(3))
    before = torch.get_rng_state()
    torch.testing.assert_close(kernels.attention(q, k, v), kernels.attention(q, k, v, dropout_p=0.0), rtol=0, atol=0)
    assert torch.equal(before, torch.get_rng_state())
