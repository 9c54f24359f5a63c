"""Texts of the sampler, token for token, against Hugging Face's unmodified `generate`."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2_lightning.generation.sampling import Sampler, Sampling
from tests.generation.huggingface_model import huggingface_model

VOCABULARY, PROMPTS, NEW_TOKENS = 97, 50, 8


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return huggingface_model(VOCABULARY)


def prompts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (PROMPTS,), generator=generator).tolist()
    return [torch.randint(VOCABULARY, (1, length), generator=generator) for length in lengths]


@torch.inference_mode()
def ours(model: GPT2LMHeadModel, prompt: Tensor, sampling: Sampling, end: int) -> list[int]:
    """A loop without a cache around the sampler."""
    sampler = Sampler(sampling, 1, "cpu")
    prompt_length = torch.tensor([prompt.size(1)])
    ids = prompt
    while ids.size(1) < prompt.size(1) + NEW_TOKENS:
        logits = model(ids, use_cache=False).logits[:, -1]
        chosen = sampler.choose(logits, ids, torch.tensor([ids.size(1)]), prompt_length).ids
        ids = torch.cat((ids, chosen.unsqueeze(1)), dim=1)
        if chosen.item() == end:
            break
    return ids[0].tolist()


def theirs(model: GPT2LMHeadModel, prompt: Tensor, settings: dict[str, Any], seed: int, end: int) -> list[int]:
    torch.manual_seed(seed)
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        eos_token_id=end,
        pad_token_id=0,
        **{"do_sample": True, "top_k": 0, **settings},
    )
    return found[0].tolist()


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 11},
    {"temperature": 1.2, "top_p": 0.8},
    {"temperature": 0.9, "min_p": 0.1},
    {"temperature": 1.5, "typical_p": 0.6},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9},
    {"temperature": 1.1, "top_k": 30, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(settings))
def test_sampled_texts_equal_huggingfaces(model: GPT2LMHeadModel, settings: dict[str, Any]) -> None:
    texts = set()
    for number, prompt in enumerate(prompts()):
        found = ours(model, prompt, Sampling(seed=number, **settings), end=number)
        assert found == theirs(model, prompt, settings, seed=number, end=number)
        texts.add(tuple(found[prompt.size(1) :]))
    assert len(texts) == PROMPTS


@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}])
def test_greedy_texts_equal_huggingfaces(model: GPT2LMHeadModel, penalties: dict[str, Any]) -> None:
    for number, prompt in enumerate(prompts()):
        found = ours(model, prompt, Sampling(temperature=0, **penalties), end=number)
        assert found == theirs(model, prompt, {"do_sample": False, **penalties}, seed=0, end=number)


@pytest.mark.parametrize(
    "planted",
    [{"top_p": 0.75}, {"top_p": 0.8, "temperature": 1.21}, {"top_p": 0.8, "top_k": 20}, {"repetition_penalty": 1.05}],
)
def test_a_setting_that_is_a_little_off_shows(model: GPT2LMHeadModel, planted: dict[str, Any]) -> None:
    settings = {"temperature": 1.2, "top_p": 0.8}
    off = Sampling(seed=5, **{**settings, **planted})
    assert any(ours(model, prompt, off, end=-1) != theirs(model, prompt, settings, 5, end=96) for prompt in prompts())
