"""Prompts, and settings of all kinds, for comparisons of two ways to choose the same tokens."""

from __future__ import annotations

from typing import Any

import torch

from gpt2_lightning.generation import Decoder, Sampling, Token
from tests.generation.random_model import BLOCK

PROMPTS = [torch.tensor([3, 1, 4]), torch.tensor([5]), torch.arange(2 * BLOCK) % 29, torch.arange(7) + 20]
"""Of different lengths; one is longer than the context."""
END = 27
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "drawn": {},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.1},
    "typical_p": {"typical_p": 0.6},
    "epsilon_cutoff": {"epsilon_cutoff": 0.03},
    "eta_cutoff": {"eta_cutoff": 0.03},
    "repetition_penalty": {"temperature": 0, "repetition_penalty": 1.7},
    "presence and frequency": {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    "ngrams": {"temperature": 0, "no_repeat_ngram_size": 2},
    "logit_bias": {"logit_bias": {3: 4.0, 7: -2.0}},
    "bad words": {"temperature": 0, "bad_words_ids": [[4], [5, 6], [1, 2, 3]]},
    "min_new_tokens": {"min_new_tokens": 9, "logit_bias": {END: 5.0}},
    "suppress_tokens": {"suppress_tokens": [0, 1, 2, 3, 4]},
    "log_probabilities": {"log_probabilities": 3, "top_k": 9},
}


def sampling(name: str = "drawn", max_new_tokens: int = 3 * BLOCK) -> Sampling:
    """Settings by name, with a seed."""
    return Sampling(**{"max_new_tokens": max_new_tokens, "temperature": 1.3, "seed": 5, **SETTINGS[name]})


def tokens_of(steps: Decoder) -> dict[int, list[Token]]:
    """The tokens of each text."""
    found: dict[int, list[Token]] = {}
    for step in steps:
        for token in step:
            found.setdefault(token.row, []).append(token)
    return found
