"""Texts of a generation loop around the transformers model, on a batch of padded prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.evaluation.parity.padding import Padding, padded_texts
from gpt2_lightning.evaluation.parity.texts import Pair, Text, our_texts
from gpt2_lightning.generation.settings import Sampling


@dataclass(frozen=True)
class LoopText:
    """Greedy continuation of one prompt, not stopped at an end of text."""

    prompt_tokens: int
    ours: Text
    theirs: Text
    """Text of the loop around their model."""

    @property
    def first_other(self) -> int | None:
        """Number of the first new token that differs, from 1; None if the texts are equal."""
        steps = enumerate(zip(self.ours, self.theirs, strict=True), start=1)
        return next((step for step, (one, other) in steps if one != other), None)


def loop_texts(pair: Pair, prompts: Sequence[Tensor], padding: Padding, count: int) -> tuple[LoopText, ...]:
    """Return `count` new tokens after each prompt (T,); an empty tuple if the padding is correct, as in `generate`."""
    if not padding.slips():
        return ()
    ours = our_texts(pair.ours, prompts, Sampling(count, temperature=0), end_of_text=None)
    theirs = padded_texts(pair.theirs, prompts, padding, count).texts
    return tuple(LoopText(len(prompt), *texts) for prompt, *texts in zip(prompts, ours, theirs, strict=True))
