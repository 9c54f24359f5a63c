"""The forward pass that conversions are compared with agrees with transformers and with the other programs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from gpt2_lightning.huggingface import config_to_huggingface
from gpt2_lightning.huggingface.weights import without_prefix_and_masks
from gpt2_lightning.model.reference import ReferenceGPT2
from tests.huggingface.networks import CONFIG, enliven, mingpt, nanogpt, some_ids


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("gelu", ["gelu_new", "gelu"])
def test_it_agrees_with_transformers(gelu: str, tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tied_head=tied, layer_norm_epsilon=1e-3)
    theirs = GPT2LMHeadModel(TheirConfig(**{**config_to_huggingface(config), "activation_function": gelu})).eval()
    enliven(theirs)
    weights = without_prefix_and_masks(theirs.state_dict())
    with torch.no_grad():
        expected = theirs.double()(some_ids()).logits
    network = ReferenceGPT2(weights, 2, 5, 1e-3, conv1d=True, exact_gelu=gelu == "gelu")
    torch.testing.assert_close(network.logits(some_ids(), torch.float64), expected, rtol=0, atol=1e-12)
    wrong = dataclasses.replace(network, exact_gelu=not network.exact_gelu).logits(some_ids(), torch.float64)
    assert (wrong - expected).abs().max() > 1e-5


@pytest.mark.parametrize("network", [nanogpt(bias=True), nanogpt(bias=False), mingpt()], ids=["bias", "none", "mingpt"])
def test_it_agrees_with_networks_of_linear_layers(network: torch.nn.Module) -> None:
    weights = without_prefix_and_masks(network.state_dict())
    exact = network.transformer["h"][0].gelu == "none"
    found = ReferenceGPT2(weights, 2, 5, exact_gelu=exact).logits(some_ids(), torch.float64)
    torch.testing.assert_close(found, network.double()(some_ids()), rtol=0, atol=1e-12)
