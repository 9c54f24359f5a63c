"""What a loop around their model writes from a batch of prompts, as its user pads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.evaluation.parity.padding import Padding, padded_texts
from gpt2_lightning.evaluation.parity.texts import Pair, Text, our_texts
from gpt2_lightning.generation.settings import Sampling


@dataclass(frozen=True)
class LoopText:
    """One prompt's likeliest tokens, past any end of text."""

    prompt_tokens: int
    ours: Text
    theirs: Text
    """Of the loop."""

    @property
    def first_other(self) -> int | None:
        """The first new token that differs, from 1; None where the texts are the same."""
        steps = enumerate(zip(self.ours, self.theirs, strict=True), start=1)
        return next((step for step, (one, other) in steps if one != other), None)


def loop_texts(pair: Pair, prompts: Sequence[Tensor], padding: Padding, count: int) -> tuple[LoopText, ...]:
    """So many new tokens after each prompt (T,); none at all where the padding is right, as `generate` has it."""
    if not padding.slips():
        return ()
    ours = our_texts(pair.ours, prompts, Sampling(count, temperature=0), end_of_text=None)
    theirs = padded_texts(pair.theirs, prompts, padding, count).texts
    return tuple(LoopText(len(prompt), *texts) for prompt, *texts in zip(prompts, ours, theirs, strict=True))
