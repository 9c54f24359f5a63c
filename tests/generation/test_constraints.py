"""Constraints against Hugging Face's logits processors and its `generate`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.constraints import keep_choices
from gpt2_lightning.generation.decoder import Decoder
from gpt2_lightning.generation.processors import LogitsProcessor
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.huggingface import config_from_huggingface, from_huggingface
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.tokenizers import CharTokenizer

ROWS, LENGTH, VOCABULARY = 11, 9, 23
ALPHABET = CharTokenizer("abcdefghijklmnopqrstu ", end_of_text=True)
CHOICES = [[3, 4, 5], [3, 4], [3, 9, 9, 9], [7]]


def random_texts(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores (R, V), texts of few distinct ids (R, L), and their lengths and prompt lengths, all L and L - 3."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(ROWS, VOCABULARY, generator=generator)
    history = torch.randint(5, (ROWS, LENGTH), generator=generator)
    return scores, history, torch.full((ROWS,), LENGTH), torch.full((ROWS,), LENGTH - 3)


def allowed_by_theirs(_: int, ids: Tensor) -> list[int]:
    """The definition of `choices` for Hugging Face's `prefix_allowed_tokens_fn`."""
    text = ids[LENGTH - 3 :].tolist()
    following = [choice[len(text)] for choice in CHOICES if choice[: len(text)] == text and len(choice) > len(text)]
    return following + ([22] if text in CHOICES else [])


def process(*texts: Tensor, ends: Sequence[int] = (), **settings: Any) -> Tensor:
    """Scores of texts, as in `random_texts`, under settings."""
    return LogitsProcessor(Sampling(**settings), ends, VOCABULARY, torch.device("cpu"))(*texts)


@pytest.mark.parametrize("seed", range(5))
def test_constraints_equal_huggingfaces(seed: int) -> None:
    texts = scores, history, _, _ = random_texts(seed)
    bad = [[4], [1, 2], [0, 3, 1], [2, 2, 2, 2], [5] * 12]
    pairs = [
        (
            process(*texts, logit_bias={3: -1.5, 0: 4.0}),
            transformers.SequenceBiasLogitsProcessor({(3,): -1.5, (0,): 4.0}),
        ),
        (process(*texts, suppress_tokens=[3, 17]), transformers.SuppressTokensLogitsProcessor([3, 17])),
        (process(*texts, bad_words_ids=bad), transformers.NoBadWordsLogitsProcessor(bad)),
    ]
    for least in (1, 3, 4, 7):
        theirs = transformers.MinNewTokensLengthLogitsProcessor(LENGTH - 3, least, torch.tensor([22, 5]))
        pairs.append((process(*texts, ends=[22, 5], min_new_tokens=least), theirs))
    for found, theirs in pairs:
        assert torch.equal(found, theirs(history, scores.clone()))


@pytest.mark.parametrize("text", [[], [3], [3, 4], [3, 9], [3, 4, 5], [7]])
def test_choices_equal_huggingfaces_prefix_constraint(text: list[int]) -> None:
    scores, history, _, prompts = random_texts(0)
    history = torch.cat((history[:, : LENGTH - 3], torch.tensor([text] * ROWS, dtype=torch.int64)), dim=1)
    found = keep_choices(scores, history, torch.full((ROWS,), history.size(1)), prompts, CHOICES, [22])
    theirs = transformers.PrefixConstrainedLogitsProcessor(allowed_by_theirs, num_beams=1)
    assert torch.equal(found, theirs(history, scores))


def test_a_sequence_is_banned_at_the_end_of_a_text_and_not_of_its_padding() -> None:
    scores, history, lengths = torch.zeros(2, VOCABULARY), torch.tensor([[1, 2, 0], [1, 2, 3]]), torch.tensor([2, 3])
    found = process(scores, history, lengths, lengths, bad_words_ids=[[1, 2, 9], [2, 3, 8], [0, 0, 1, 7]])
    assert found.isinf().nonzero().tolist() == [[0, 9], [1, 8]]


@pytest.fixture(scope="module")
def models() -> tuple[GPT2LMHeadModel, GPT2]:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=40, n_embd=24, n_layer=2, n_head=2, bos_token_id=22, eos_token_id=22
    )
    theirs = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(4)
    ours = from_huggingface(theirs.state_dict(), config_from_huggingface(theirs.config.to_dict()))
    return theirs, ours.eval()


@pytest.mark.parametrize(
    ("settings", "named_there"),
    [
        ({"min_new_tokens": 9}, {}),
        ({"eos_token_id": [1, 5, 8]}, {}),
        ({"eos_token_id": 4}, {}),
        ({"min_new_tokens": 4, "eos_token_id": [1, 5, 8, 13]}, {}),
        ({"suppress_tokens": [2, 3, 5, 7, 11]}, {}),
        ({"bad_words_ids": [[1], [4, 4], [22], [7, 1]]}, {}),
        ({"logit_bias": {1: 9.0, 4: -9.0, 6: 9.5}}, {"sequence_bias": {(1,): 9.0, (4,): -9.0, (6,): 9.5}}),
        ({"epsilon_cutoff": 0.05}, {}),
        ({"eta_cutoff": 0.1}, {}),
    ],
    ids=str,
)
def test_texts_equal_huggingfaces(
    models: tuple[GPT2LMHeadModel, GPT2], settings: dict[str, Any], named_there: dict[str, Any]
) -> None:
    theirs, ours = models
    changed = 0
    for start, temperature in itertools.product(range(0, 22, 2), (0, 1)):
        sampling = Sampling(max_new_tokens=12, temperature=temperature, seed=3, **settings)
        prompt = torch.tensor([start, 1, 2])
        found = prompt.tolist() + [token.id for (token,) in Decoder(ours, [prompt], sampling, end_of_text=22)]
        torch.manual_seed(3)
        named = named_there or settings
        options = {"do_sample": temperature > 0, "top_k": 0, "max_new_tokens": 12, "pad_token_id": 22, **named}
        expected = theirs.generate(prompt[None], attention_mask=torch.ones(1, 3, dtype=torch.int64), **options)
        assert found == expected[0].tolist()
        plain = Sampling(max_new_tokens=12, temperature=temperature, seed=3)
        changed += found != [*prompt.tolist(), *(t.id for (t,) in Decoder(ours, [prompt], plain, end_of_text=22))]
    assert changed


def generate(models: tuple[GPT2LMHeadModel, GPT2], tokenizer: CharTokenizer, **settings: Any) -> list[str]:
    loaded = LoadedModel(models[1], tokenizer, {}, "", "")
    model = LanguageModel(models[1], tokenizer, loaded)
    options = {"max_new_tokens": 12, "seed": 5, **settings}
    return [model.generate(prompt, **options) for prompt in ("abc", "de", "f g", "s")]


def test_words_are_banned_as_text(models: tuple[GPT2LMHeadModel, GPT2]) -> None:
    words = [text[3:5] for text in generate(models, ALPHABET, suppress_tokens=[22])]
    found = generate(models, ALPHABET, bad_words=words, suppress_tokens=[22])
    assert not any(word in text for word in words for text in found)


@pytest.mark.parametrize("has_end", [True, False])
def test_an_answer_is_one_of_the_choices(models: tuple[GPT2LMHeadModel, GPT2], has_end: bool) -> None:
    tokenizer = ALPHABET if has_end else CharTokenizer("abcdefghijklmnopqrstuv ")
    choices = ["red", "green", "blue", "lilac"]
    found = [
        text for seed in range(6) for text in generate(models, tokenizer, choices=choices, temperature=3, seed=seed)
    ]
    assert set(found) <= set(choices)
    assert len(set(found)) > 1


def test_settings_that_leave_no_token_are_named(models: tuple[GPT2LMHeadModel, GPT2]) -> None:
    with pytest.raises(UserError, match="suppress_tokens, choices_ids: together they leave no token"):
        generate(models, ALPHABET, choices=["red"], suppress_tokens=[int(ALPHABET.encode("r")[0])])
    with pytest.raises(UserError, match=r"suppress_tokens: the id 99 is out of range, 0 to 22 is allowed"):
        generate(models, ALPHABET, suppress_tokens=[99])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_new_tokens": 13, "max_new_tokens": 12}, "min_new_tokens: 13 is above max_new_tokens=12"),
        ({"bad_words_ids": [[]]}, "bad_words_ids: a sequence is empty"),
        ({"epsilon_cutoff": 1.0}, "epsilon_cutoff: 1.0 is out of range"),
        ({"suppress_tokens": [-1]}, "suppress_tokens"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
