"""A network that others trained to sort six digits does so in ours."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, GPT2Config, KVCache
from gpt2_lightning.model.kernels import KERNELS

DIGITS = 6


def load_mingpt(path: Path) -> GPT2:
    """minGPT keeps Linear weights as we do, an untied head, and its causal mask as `attn.bias`."""
    saved = json.loads(path.read_text())
    shape = {name: saved["config"][name] for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    model = GPT2(GPT2Config(**shape, tied_head=False))
    weights = {
        name.removeprefix("transformer."): decode(value)
        for name, value in saved.items()
        if name != "config" and not name.endswith(".attn.bias")
    }
    model.load_state_dict(weights)
    return model.eval()


def decode(value: dict[str, object]) -> Tensor:
    assert value["dtype"] == "torch.float32"
    data = bytearray(base64.b64decode(str(value["data"])))
    return torch.frombuffer(data, dtype=torch.float32).view(value["shape"]).clone()


@torch.inference_mode()
def greedy(model: GPT2, ids: Tensor, cached: bool) -> Tensor:
    cache = KVCache(model.config, len(ids), ids.device, torch.float32) if cached else None
    unread = ids
    for _ in range(DIGITS):
        token = model(unread, cache=cache)[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat((ids, token), dim=1)
        unread = token if cached else ids
    return ids[:, -DIGITS:]


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.tensor(list(itertools.product(range(3), repeat=DIGITS)))


@pytest.fixture(scope="module")
def sorter(shared_data: Path) -> GPT2:
    return load_mingpt(shared_data / "gpt-nano-sort" / "gpt-nano-sort-model.json")


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_the_trained_sorter_sorts_every_input(sorter: GPT2, inputs: Tensor, kernels: str, cached: bool) -> None:
    model = GPT2(dataclasses.replace(sorter.config, kernels=kernels)).eval()
    model.load_state_dict(sorter.state_dict())
    assert len(inputs) == 729
    assert torch.equal(greedy(model, inputs, cached), inputs.sort(dim=1).values)


def test_the_sorter_needs_its_weights_where_they_are(sorter: GPT2, inputs: Tensor) -> None:
    """One transposed projection, and it sorts no more."""
    model = GPT2(sorter.config).eval()
    weights = sorter.state_dict()
    model.load_state_dict({**weights, "h.1.attn.c_proj.weight": weights["h.1.attn.c_proj.weight"].t()})
    assert not torch.equal(greedy(model, inputs, cached=True), inputs.sort(dim=1).values)
