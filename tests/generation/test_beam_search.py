"""Beam search against Hugging Face's unmodified `generate`, token for token."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.beams import Beam, beam_search
from gpt2_lightning.generation.sampling import Sampling
from tests.generation.huggingface_model import huggingface_model

VOCABULARY, PROMPTS = 97, 50


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return huggingface_model(VOCABULARY)


@pytest.fixture(scope="module")
def prompts(model: GPT2LMHeadModel) -> list[tuple[Tensor, int]]:
    """Prompts (T,), and for each an end of text: a token that is more or less likely to come first."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (PROMPTS,), generator=generator).tolist()
    texts = [torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths]
    with torch.inference_mode():
        likeliest_first = [model(text.unsqueeze(0)).logits[0, -1].argsort(descending=True).tolist() for text in texts]
    return [(text, ids[1 + 3 * (n % 9)]) for n, (text, ids) in enumerate(zip(texts, likeliest_first, strict=True))]


class UncachedModel:
    """Pooling all of every beam again at each step."""

    def __init__(self, model: GPT2LMHeadModel, prompt: Tensor) -> None:
        self.model = model
        self.texts = prompt.unsqueeze(0)

    def logits(self) -> Tensor:
        with torch.inference_mode():
            return self.model(self.texts, use_cache=False).logits[:, -1]

    def step(self, ids: Tensor, rows: Tensor) -> Tensor:
        self.texts = torch.cat((self.texts[rows], ids.unsqueeze(1)), dim=1)
        return self.logits()


def ours(model: GPT2LMHeadModel, prompt: Tensor, sampling: Sampling, end: int | list[int] | None) -> list[Beam]:
    reader = UncachedModel(model, prompt)
    return beam_search(prompt, reader.logits(), reader.step, sampling, end)


def theirs(
    model: GPT2LMHeadModel, prompt: Tensor, sampling: Sampling, end: int | list[int] | None
) -> list[tuple[list[int], float]]:
    """All beams, best first: ids after the prompt with the end of text, and the score."""
    found = model.generate(
        prompt.unsqueeze(0),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        num_beams=sampling.n_beams,
        num_return_sequences=sampling.n_beams,
        length_penalty=sampling.length_penalty,
        early_stopping=sampling.early_stopping,
        repetition_penalty=sampling.repetition_penalty,
        no_repeat_ngram_size=sampling.no_repeat_ngram_size,
        eos_token_id=end,
        pad_token_id=VOCABULARY,  # told from every token
        return_dict_in_generate=True,
        output_scores=True,
    )
    texts = found.sequences[:, len(prompt) :].tolist()
    return [
        ([token for token in text if token != VOCABULARY], score)
        for text, score in zip(texts, found.sequences_scores.tolist(), strict=True)
    ]


def as_theirs(beams: list[Beam]) -> list[list[int]]:
    return [[*beam.ids, beam.end] if beam.end is not None else list(beam.ids) for beam in beams]


SETTINGS: list[dict[str, Any]] = [
    {"n_beams": 2},
    {"n_beams": 4, "length_penalty": 0.0},
    {"n_beams": 3, "length_penalty": 2.5},
    {"n_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    {"n_beams": 5, "early_stopping": True},
    {"n_beams": 4, "early_stopping": "never", "length_penalty": 1.5},
    {"n_beams": 3, "repetition_penalty": 1.3},
    {"n_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 0.8, "length_penalty": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()))
def test_beams_equal_huggingfaces(
    model: GPT2LMHeadModel, prompts: list[tuple[Tensor, int]], settings: dict[str, Any]
) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=8, **settings)
    ended = 0
    for prompt, end in prompts:
        found, expected = ours(model, prompt, sampling, end), theirs(model, prompt, sampling, end)
        assert as_theirs(found) == [ids for ids, _ in expected]
        assert [beam.score for beam in found] == pytest.approx([score for _, score in expected], rel=1e-5)
        ended += found[0].end is not None
    assert 0 < ended < PROMPTS, "texts that end and texts that do not"


def test_beams_with_several_ends_of_text_equal_huggingfaces(
    model: GPT2LMHeadModel, prompts: list[tuple[Tensor, int]]
) -> None:
    sampling, ended = Sampling(temperature=0, max_new_tokens=8, n_beams=3), set()
    for prompt, end in prompts:
        ends = [end, (end + 1) % VOCABULARY, (end + 2) % VOCABULARY]
        found, expected = ours(model, prompt, sampling, ends), theirs(model, prompt, sampling, ends)
        assert as_theirs(found) == [ids for ids, _ in expected]
        ended |= {ends.index(beam.end) for beam in found if beam.end is not None}
    assert len(ended) > 1


def test_beams_without_an_end_of_text_equal_huggingfaces(
    model: GPT2LMHeadModel, prompts: list[tuple[Tensor, int]]
) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=8, n_beams=3)
    for prompt, _ in prompts[:10]:
        found = ours(model, prompt, sampling, None)
        assert as_theirs(found) == [ids for ids, _ in theirs(model, prompt, sampling, None)]
        assert not any(beam.end is not None for beam in found)


@pytest.mark.parametrize(
    "planted", [{"length_penalty": 0.9}, {"early_stopping": True}, {"n_beams": 4}, {"repetition_penalty": 1.1}]
)
def test_a_setting_that_is_a_little_off_shows(
    model: GPT2LMHeadModel, prompts: list[tuple[Tensor, int]], planted: dict[str, Any]
) -> None:
    settings = {"temperature": 0, "max_new_tokens": 8, "n_beams": 3}
    off, right = Sampling(**{**settings, **planted}), Sampling(**settings)
    assert any(
        as_theirs(ours(model, prompt, off, end))[:3] != [ids for ids, _ in theirs(model, prompt, right, end)]
        for prompt, end in prompts
    )


def test_the_best_of_many_beams_is_the_likeliest_text_there_is(model: GPT2LMHeadModel) -> None:
    prompt = torch.tensor([5, 3])
    sampling = Sampling(temperature=0, max_new_tokens=2, n_beams=VOCABULARY // 2, length_penalty=0.0)
    best = ours(model, prompt, sampling, None)[0]
    with torch.inference_mode():
        texts = torch.cat((prompt.expand(VOCABULARY, -1), torch.arange(VOCABULARY).unsqueeze(1)), dim=1)
        log_probabilities = model(texts).logits[:, -2:].log_softmax(dim=-1)
    both = log_probabilities[0, 0].unsqueeze(1) + log_probabilities[:, 1]  # (V, V)
    assert best.score == pytest.approx(both.max().item(), rel=1e-5)
    assert best.ids == divmod(int(both.argmax()), VOCABULARY)


def test_one_beam_is_greedy(model: GPT2LMHeadModel) -> None:
    prompt = torch.tensor([5, 3])
    reader = UncachedModel(model, prompt)
    (beam,) = ours(model, prompt, Sampling(temperature=0, max_new_tokens=6, n_beams=1), None)
    logits, expected = reader.logits(), []
    for _ in range(6):
        expected.append(int(logits.argmax()))
        logits = reader.step(logits.argmax(dim=-1), torch.tensor([0]))
    assert list(beam.ids) == expected


def test_every_step_reads_n_beams_rows(model: GPT2LMHeadModel) -> None:
    prompt, calls = torch.tensor([5, 3]), []
    reader = UncachedModel(model, prompt)

    def step(ids: Tensor, rows: Tensor) -> Tensor:
        calls.append((ids.shape, rows.tolist()))
        return reader.step(ids, rows)

    beam_search(prompt, reader.logits(), step, Sampling(temperature=0, max_new_tokens=7, n_beams=3))
    assert [shape for shape, _ in calls] == [(3,)] * 6, "the last tokens are not read"
    assert calls[0][1] == [0, 0, 0]
    assert any(rows != [0, 1, 2] for _, rows in calls[1:])


def test_too_many_beams_for_the_vocabulary_are_an_error() -> None:
    with pytest.raises(UserError, match="n_beams=4 is too many for a vocabulary of 7, at most 3"):
        beam_search(
            torch.tensor([0]), torch.zeros(1, 7), lambda *_: torch.zeros(4, 7), Sampling(temperature=0, n_beams=4)
        )


def test_logits_that_are_not_numbers_are_an_error() -> None:
    sampling, nan = Sampling(temperature=0, n_beams=2), torch.full((1, 7), torch.nan)
    with pytest.raises(UserError, match="not numbers"):
        beam_search(torch.tensor([0]), nan, lambda *_: torch.zeros(2, 7), sampling)


def test_ngrams_that_leave_no_token_are_an_error() -> None:
    sampling = Sampling(temperature=0, n_beams=2, no_repeat_ngram_size=1)
    with pytest.raises(UserError, match="no_repeat_ngram_size=1 leaves no token"):
        beam_search(torch.arange(7), torch.zeros(1, 7), lambda *_: torch.zeros(2, 7), sampling)
