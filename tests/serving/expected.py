"""Settings that have little in common, and the texts that Python's `generate` has with them."""

from __future__ import annotations

from typing import Any

from gpt2_lightning.api.language_model import LanguageModel

SETTINGS: list[dict[str, Any]] = [
    {"seed": 1},
    {"temperature": 0.0},
    {"seed": 2, "top_p": 0.8, "presence_penalty": 0.5},
    {"seed": 3, "frequency_penalty": 1.0},
    {"seed": 4, "top_k": 7},
    {"seed": 5, "logit_bias": {"3": 2.5, "7": -100}},
    {"seed": 6, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    {"seed": 7, "min_p": 0.02, "stop": ["e"]},
]
PROMPTS = ["one day", "a", "the cat sat on a mat. where was it?", "x y z", "bcd", "question?", "A B C", "who was"]


def expected(model: LanguageModel, prompt: str, count: int, **settings: Any) -> str:
    """What `generate` of Python returns."""
    bias = settings.pop("logit_bias", None)
    own = {"temperature": 1.0, **settings, "logit_bias": {int(k): v for k, v in bias.items()} if bias else None}
    return model.generate(prompt, max_new_tokens=count, **own)
