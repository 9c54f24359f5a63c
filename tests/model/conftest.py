"""A network that mistakes show in, with every positional encoding and both kernel sets."""

from __future__ import annotations

import pytest
import torch

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.kernels import KERNELS
from gpt2_lightning.model.positions import POSITIONS
from tests.model.rotary import Rotary
from tests.model.sizes import BLOCK, V


@pytest.fixture(params=["learned", "sinusoidal", "rotary"])
def positions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)
    return request.param


@pytest.fixture(params=KERNELS)
def model(positions: str, request: pytest.FixtureRequest) -> GPT2:
    """Weights five times their usual size, in float64: mistakes show, rounding does not."""
    torch.manual_seed(0)
    config = GPT2Config(V, BLOCK, n_layer=3, n_head=5, n_embd=30, positions=positions, kernels=request.param)
    model = GPT2(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model
