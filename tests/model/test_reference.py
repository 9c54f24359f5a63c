"""The network and the reference, which share no code, agree with every set of kernels."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.kernels import KERNELS
from gpt2_lightning.model.reference import ReferenceGPT2

CONFIG = GPT2Config(vocab_size=23, block_size=13, n_layer=3, n_head=5, n_embd=35)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("gelu", ["tanh", "exact"])
def test_logits_equal_those_of_the_reference(gelu: str, tied_head: bool, kernels: str) -> None:
    torch.manual_seed(0)
    model = GPT2(dataclasses.replace(CONFIG, gelu=gelu, tied_head=tied_head, kernels=kernels)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5).add_(0.01 * torch.randn_like(parameter))
    ids = torch.randint(23, (2, 11))
    reference = ReferenceGPT2(model.state_dict(), 3, 5, exact_gelu=gelu == "exact")
    torch.testing.assert_close(model(ids), reference.logits(ids, torch.float64), rtol=0, atol=1e-11)
    other = dataclasses.replace(reference, exact_gelu=gelu != "exact")
    assert (model(ids) - other.logits(ids, torch.float64)).abs().max() > 1e-6, "another GELU shows"
