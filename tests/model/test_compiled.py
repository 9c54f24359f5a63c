"""A compiled step reads what the plain one reads, in shapes that stay as they are."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.compiled import compiled

BLOCK = 13
PROMPTS = [torch.arange(5), torch.arange(9), torch.arange(3)]


@pytest.fixture
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(GPT2Config(vocab_size=31, block_size=BLOCK, n_layer=2, n_head=2, n_embd=20)).eval()


def texts(model: GPT2) -> list[list[int]]:
    """Drawn, so that texts end at different steps, and longer than the context, so that windows slide."""
    decoder = Decoder(model, PROMPTS, Sampling(max_new_tokens=3 * BLOCK, seed=3), end_of_text=7)
    return [[token.id for token in step] for step in decoder]


def test_a_compiled_step_writes_the_same_texts_from_few_graphs(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured as a whole and run as it is: what a C++ compiler makes of it takes too long for a test."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step: compile_(step, backend="eager", fullgraph=True))
    torch.compiler.reset()
    counters.clear()
    plain = texts(model)
    assert len({len(step) for step in plain}) > 1, "texts end at different steps"
    with compiled(model):
        assert texts(model) == plain
        with compiled(model):
            pass
        assert model.decode_step is not None, "the inner one leaves it to the outer one"
        assert texts(model) == plain
    assert model.decode_step is None
    assert counters["stats"]["unique_graphs"] <= 3, "for one text, for several, and no more"
    assert counters["stats"]["unique_graphs"] >= 1
