"""Positional encodings, and how one of a user's own reaches the network."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from gpt2_lightning.model import GPT2, GPT2Config, KVCache
from gpt2_lightning.model.positions import (
    POSITIONS,
    PositionalEncoding,
    SinusoidalPositions,
)
from tests.model.rotary import Rotary


def small(**fields: object) -> GPT2Config:
    shape = {"vocab_size": 23, "block_size": 61, "n_layer": 2, "n_head": 1, "n_embd": 22}
    return GPT2Config(**{**shape, **fields})


def test_learned_positions_are_one_row_for_each_position() -> None:
    wpe = GPT2(small()).wpe
    positions = torch.tensor([5, 0, 60, 7])
    for t, position in enumerate([5, 0, 60, 7]):
        assert torch.equal(wpe(positions)[t], wpe.weight[position])


def test_learned_positions_start_at_the_initializer_range() -> None:
    torch.manual_seed(0)
    wpe = GPT2(small(block_size=512, initializer_range=0.3)).wpe
    assert wpe.weight.std().item() == pytest.approx(0.3, rel=0.04)
    assert wpe.weight.requires_grad


@pytest.mark.parametrize("n_embd", [22, 23, 1], ids=["even", "odd", "one channel"])
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_sinusoidal_positions_follow_the_paper(n_embd: int, scale: float) -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i / C)) and PE(pos, 2i + 1) its cosine, in plain Python."""
    wpe = SinusoidalPositions(block_size=61, n_embd=n_embd, head_size=n_embd, initializer_range=scale)
    embedded = wpe(torch.arange(61))
    for position in range(61):
        for channel in range(n_embd):
            angle = position / 10000 ** (2 * (channel // 2) / n_embd)
            wave = math.cos(angle) if channel % 2 else math.sin(angle)
            assert embedded[position, channel].item() == pytest.approx(wave * scale * 2**0.5, abs=2e-5 * scale)


def test_sinusoidal_positions_are_as_large_as_token_embeddings() -> None:
    wpe = SinusoidalPositions(block_size=61, n_embd=22, head_size=22, initializer_range=0.05)
    assert wpe(torch.arange(61)).square().mean().sqrt().item() == pytest.approx(0.05, rel=1e-5)


def test_sinusoidal_positions_have_nothing_to_train() -> None:
    model = GPT2(small(positions="sinusoidal"))
    assert not list(model.wpe.parameters())
    table = model.wpe.get_buffer("table").clone()
    model(torch.arange(7).unsqueeze(0)).sum().backward()
    assert torch.equal(model.wpe.get_buffer("table"), table)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_same_token_differs_by_its_position(positions: str) -> None:
    torch.manual_seed(0)
    model = GPT2(small(positions=positions)).eval()
    logits = model(torch.full((1, 7), 3))[0]
    for t in range(6):
        assert (logits[t] - logits[t + 1]).abs().max() > 1e-4


@pytest.fixture
def rotary(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], GPT2]:
    """Makes a rotary model of so many layers."""
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)

    def make(n_layer: int) -> GPT2:
        torch.manual_seed(0)
        config = small(positions="rotary", block_size=13, n_layer=n_layer, n_head=2, n_embd=20)
        model = GPT2(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(5)
        return model

    return make


def test_a_registered_encoding_reaches_attention(rotary: Callable[[int], GPT2]) -> None:
    """One layer without positions takes what came before as a set; with rotations their order matters."""
    there, back = torch.tensor([[3, 5, 7, 11]]), torch.tensor([[5, 3, 7, 11]])
    model = rotary(1)
    assert (model(there)[0, -1] - model(back)[0, -1]).abs().max() > 1e-3
    model.wpe = PositionalEncoding()
    torch.testing.assert_close(model(there)[0, -1], model(back)[0, -1], rtol=0, atol=1e-12)


def test_a_registered_encoding_counts_cached_tokens(rotary: Callable[[int], GPT2]) -> None:
    model = rotary(2)
    ids = torch.randint(23, (2, 13), generator=torch.Generator().manual_seed(1))
    cache = KVCache(model.config, 2, ids.device, torch.float64)
    steps = torch.cat([model(part, cache=cache) for part in ids.split([4, 1, 1, 5, 2], dim=1)], dim=1)
    torch.testing.assert_close(steps, model(ids), rtol=0, atol=1e-12)
