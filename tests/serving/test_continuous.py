"""Continuous batching beside `Decoder`, alone and with other texts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.model import GPT2
from gpt2_lightning.serving import continuous
from gpt2_lightning.serving.continuous import ContinuousBatch, Prefill, RunningText
from tests.generation.random_model import BLOCK, CONFIG, make_model

CONTEXT = 48
SETTINGS: list[dict[str, Any]] = [
    {"seed": 3},
    {"temperature": 0.0},
    {"seed": 4, "top_k": 5, "presence_penalty": 0.5},
    {"seed": 5, "top_p": 0.7, "log_probabilities": 3},
    {"seed": 6, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    {"seed": 7, "logit_bias": {4: 3.0}, "frequency_penalty": 0.4},
    {"seed": 8, "min_p": 0.05},
    {"seed": 9, "typical_p": 0.9},
]
LENGTHS = (3, 1, 40, 17, 9, 5, 24, 2)


@pytest.fixture(scope="module")
def model() -> GPT2:
    return make_model(dataclasses.replace(CONFIG, block_size=CONTEXT))


def prompt_of(length: int) -> Tensor:
    return torch.randint(CONFIG.vocab_size, (length,), generator=torch.Generator().manual_seed(length))


def alone(model: GPT2, prompt: Tensor, sampling: Sampling) -> list[int]:
    return [step[0].id for step in Decoder(model, [prompt], sampling)]


def whole(model: GPT2, prompt: Tensor) -> Prefill:
    prefill = Prefill(model, prompt)
    while not prefill.advance():
        pass
    return prefill


def together(
    model: GPT2, prompts: list[Tensor], samplings: list[Sampling], rows: int, every: int = 1
) -> list[list[int]]:
    """The tokens of texts of which one joins every few steps, as soon as there is a row."""
    batch, waiting = ContinuousBatch(model, rows), list(zip(prompts, samplings, strict=True))
    found: list[list[int]] = [[] for _ in prompts]
    texts: dict[RunningText, int] = {}
    steps = 0
    while waiting or batch.texts:
        if waiting and batch.free and steps % every == 0:
            prompt, sampling = waiting.pop(0)
            prefill = whole(model, prompt)
            text = RunningText(prefill, sampling)
            texts[text] = len(texts)
            found[texts[text]].append(batch.join(text, prefill).id)
        for text, token in batch.step():
            assert not isinstance(token, UserError)
            found[texts[text]].append(token.id)
        steps += 1
    return found


@pytest.mark.parametrize(("rows", "every"), [(8, 1), (8, 3), (3, 2), (1, 1)])
def test_texts_equal_those_generated_alone_whichever_run_beside_them(
    model: GPT2, monkeypatch: pytest.MonkeyPatch, rows: int, every: int
) -> None:
    monkeypatch.setattr(continuous, "CHUNK", 8)
    prompts = [prompt_of(length) for length in LENGTHS]
    samplings = [Sampling(max_new_tokens=4 + 5 * i, **settings) for i, settings in enumerate(SETTINGS)]
    expected = [alone(model, prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
    assert together(model, prompts, samplings, rows, every) == expected


def test_rows_slide_as_in_a_decoder() -> None:
    model = make_model(CONFIG)
    prompts, samplings = [prompt_of(4), prompt_of(15)], [Sampling(max_new_tokens=3 * BLOCK, seed=2)] * 2
    expected = [alone(model, *each) for each in zip(prompts, samplings, strict=True)]
    assert together(model, prompts, samplings, 2) == expected


def test_end_of_text_and_leaving_free_the_row(model: GPT2) -> None:
    sampling = Sampling(max_new_tokens=30, temperature=0)
    prefill = whole(model, prompt_of(5))
    ids = alone(model, prompt_of(5), sampling)
    end = next(i for i in ids[1:] if i != ids[0])
    batch = ContinuousBatch(model, 2)
    ending, other = RunningText(prefill, sampling, ends=[end]), RunningText(prefill, sampling)
    batch.join(ending, prefill)
    batch.join(other, prefill)
    assert batch.free == 0
    with pytest.raises(ValueError, match="batch_size is 2"):
        batch.join(RunningText(prefill, sampling), prefill)
    finished = [token for _ in range(len(ids) - 1) for text, token in batch.step() if text is ending]
    assert [token.id for token in finished if not isinstance(token, UserError)] == ids[1 : ids.index(end) + 1]
    assert batch.free == 2  # both have ended
    first = batch.join(text := RunningText(prefill, sampling, ends=[ids[0]]), prefill)
    assert (first.finished, batch.texts) == ("end_of_text", [])
    batch.join(text := RunningText(prefill, sampling), prefill)
    batch.leave(text)
    assert batch.free == 2


def test_text_without_a_token_leaves_and_the_others_go_on(model: GPT2) -> None:
    everything = list(range(CONFIG.vocab_size))
    prefill = whole(model, prompt_of(5))
    batch = ContinuousBatch(model, 2)
    one = Sampling(max_new_tokens=40, no_repeat_ngram_size=1)
    batch.join(RunningText(prefill, one), prefill)
    batch.join(other := RunningText(prefill, Sampling(max_new_tokens=40)), prefill)
    errors = [token for _ in range(30) for _, token in batch.step() if isinstance(token, UserError)]
    assert ["no_repeat_ngram_size=1" in str(error) for error in errors] == [True]
    assert batch.texts == [other]
    with pytest.raises(UserError, match="suppress_tokens"):
        batch.join(RunningText(prefill, Sampling(suppress_tokens=everything)), prefill)
    assert batch.texts == [other]


def test_row_numbers_give_the_samples_of_a_decoder(model: GPT2) -> None:
    sampling = Sampling(max_new_tokens=12, seed=11)
    expected: list[list[int]] = [[], [], []]
    for step in Decoder(model, [prompt_of(6)], sampling, samples=3):
        for token in step:
            expected[token.row].append(token.id)
    prefill, batch = whole(model, prompt_of(6)), ContinuousBatch(model, 3)
    found = [[batch.join(RunningText(prefill, sampling, row), prefill).id] for row in range(3)]
    for _ in range(11):
        for text, token in batch.step():
            assert not isinstance(token, UserError)
            found[text.row].append(token.id)
    assert found == expected


def test_chunks_of_a_prompt_give_the_logits_of_one_pass(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "CHUNK", 7)
    with torch.no_grad():
        expected = model(prompt_of(40).unsqueeze(0))[:, -1]
    logits = whole(model, prompt_of(40)).logits
    assert logits is not None
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
