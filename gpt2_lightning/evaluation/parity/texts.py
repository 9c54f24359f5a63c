"""Comparison, token by token, of texts that both sides generate from the same tokens with the same settings."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.evaluation.parity.layers import our_forward, their_forward
from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.generation.decoder import Decoder, search
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.model import GPT2

GREEDY = "greedy"
_LIKELIEST = 5
Text = tuple[int, ...]
"""New tokens, without the end of text."""
Distribution = tuple[tuple[int, float], ...]
"""Tokens with their probabilities, in descending order of probability."""


@dataclass(frozen=True)
class Pair:
    """Both networks, and the end-of-text token."""

    ours: GPT2
    theirs: TheirModel
    end_of_text: int | None


@dataclass(frozen=True)
class Divergence:
    """First difference of two texts."""

    step: int
    """Number of the first new token that differs, from 1."""
    our_token: int | None
    """Our token at this step; None if our text has ended."""
    their_token: int | None
    our_likeliest: Distribution
    """Most probable tokens of our network at this step, after the common text; before temperature and filters."""
    their_likeliest: Distribution


@dataclass(frozen=True)
class Match:
    """Texts of both sides, compared."""

    name: str
    ours: Text
    theirs: Text
    divergence: Divergence | None
    """First difference; None if the texts are equal."""


def ways(sampling: Sampling, n_beams: int) -> dict[str, Sampling]:
    """Return the settings of the compared texts by name: greedy, sampled unless the temperature is 0, beam search."""
    greedy = dataclasses.replace(sampling, temperature=0.0)
    sampled = {"sampled": sampling} if sampling.temperature != 0 else {}
    return {GREEDY: greedy, **sampled, f"{n_beams} beams": dataclasses.replace(greedy, n_beams=n_beams)}


def write_both(pair: Pair, prompt: Tensor, settings: Mapping[str, Sampling]) -> list[Match]:
    """Generate and compare texts after a prompt (T,) with each of the settings.

    The first settings are used once more, on a batch of prompts of different lengths.
    """
    found = []
    for name, sampling in settings.items():
        found += _write(pair, [name], [prompt], sampling)
    prompts = ragged(prompt)
    names = [f"{GREEDY} in a batch, prompt of {len(ids)}" for ids in prompts]
    return found + _write(pair, names, prompts, next(iter(settings.values())))


def ragged(prompt: Tensor) -> list[Tensor]:
    """Return prompts of three lengths, cut from a prompt (T,)."""
    whole = prompt if len(prompt) > 2 else prompt.repeat(3)
    return [whole[-1:], whole[-(len(whole) // 2 + 1) :], whole]


def match(pair: Pair, name: str, prompt: Tensor, ours: Text, theirs: Text) -> Match:
    """Compare two texts after a prompt (T,), with the distributions of both networks at the first difference."""
    if ours == theirs:
        return Match(name, ours, theirs, None)
    steps = enumerate(zip(ours, theirs, strict=False))
    step = next((i for i, (one, other) in steps if one != other), min(len(ours), len(theirs)))
    read = torch.cat((prompt, prompt.new_tensor(ours[:step])))[None]
    with torch.no_grad():
        divergence = Divergence(
            step + 1,
            ours[step] if step < len(ours) else None,
            theirs[step] if step < len(theirs) else None,
            _likeliest(our_forward(pair.ours)(read)[0, -1]),
            _likeliest(their_forward(pair.theirs)(read)[0, -1]),
        )
    return Match(name, ours, theirs, divergence)


def matched_settings(sampling: Sampling, end_of_text: int | None) -> dict[str, Any]:
    """Return the arguments of `generate` equivalent to our settings; all of them are explicit."""
    settings: dict[str, Any] = {
        "do_sample": sampling.temperature != 0,
        "max_new_tokens": sampling.max_new_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "no_repeat_ngram_size": sampling.no_repeat_ngram_size or 0,
        "num_beams": sampling.n_beams,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text or 0,
    }
    if sampling.n_beams > 1:
        settings |= {"length_penalty": sampling.length_penalty, "early_stopping": sampling.early_stopping}
    if sampling.temperature != 0:
        settings |= {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or 0,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p or None,
            "typical_p": sampling.typical_p,
        }
    return settings


def our_texts(model: GPT2, prompts: Sequence[Tensor], sampling: Sampling, end_of_text: int | None) -> list[Text]:
    """Return our new tokens after each prompt (T,), generated in one batch; with beam search, the best beam."""
    if sampling.n_beams > 1:
        return [search(model, prompt, sampling, end_of_text)[0].ids for prompt in prompts]
    texts: list[list[int]] = [[] for _ in prompts]
    for tokens in Decoder(model, prompts, sampling, end_of_text=end_of_text):
        for token in tokens:
            if token.finished != "end_of_text":
                texts[token.row].append(token.id)
    return [tuple(text) for text in texts]


def their_texts(model: TheirModel, prompts: Sequence[Tensor], settings: dict[str, Any], seed: int) -> list[Text]:
    """Return the new tokens of `generate` after each prompt (T,), in one batch, padded on the left and masked."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.stack([torch.cat((prompt.new_zeros(width - len(prompt)), prompt)) for prompt in prompts])
    mask = torch.stack([(torch.arange(width) >= width - len(prompt)).long() for prompt in prompts]).to(ids.device)
    with seeded(seed, model.device):
        found = model.generate(ids, attention_mask=mask, **settings)
    return [until_end(row[width:].tolist(), settings["eos_token_id"]) for row in found]


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Context manager that seeds torch, and restores its random state at exit."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def until_end(ids: Sequence[int], end_of_text: int | list[int] | None) -> Text:
    """Return the ids before the first of the end-of-text tokens, after which there is padding."""
    ends = end_of_text if isinstance(end_of_text, list) else [end_of_text]
    return tuple(itertools.takewhile(lambda token: token not in ends, ids))


def _write(pair: Pair, names: Sequence[str], prompts: Sequence[Tensor], sampling: Sampling) -> list[Match]:
    ours = our_texts(pair.ours, prompts, sampling, pair.end_of_text)
    theirs = their_texts(pair.theirs, prompts, matched_settings(sampling, pair.end_of_text), sampling.seed)
    return [match(pair, *fields) for fields in zip(names, prompts, ours, theirs, strict=True)]


def _likeliest(logits: Tensor) -> Distribution:
    top = logits.float().softmax(dim=-1).topk(min(_LIKELIEST, len(logits)))
    return tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
