"""Prompts of different lengths as a loop written by hand reads them in transformers, with and without its slips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpt2_lightning.evaluation.parity.sides import TheirModel


@dataclass(frozen=True)
class Padding:
    """How a batch is made. The defaults are right; what is otherwise is a slip."""

    side: Literal["left", "right"] = "left"
    attention_mask: bool = True
    """Whether the padding is masked."""
    position_ids: bool = True
    """Whether each text has its own positions; GPT-2 counts the padding otherwise."""

    def slips(self) -> list[str]:
        """Fields that are not right."""
        right = Padding()
        return [
            field.name for field in dataclasses.fields(self) if getattr(self, field.name) != getattr(right, field.name)
        ]

    def without(self, fields: Sequence[str]) -> Padding:
        """The same with some fields corrected."""
        right = Padding()
        return dataclasses.replace(self, **{name: getattr(right, name) for name in fields})


SENTENCES = {
    "side": "prompts are padded on the right, so that their texts go on after the padding",
    "attention_mask": "prompts are padded without an attention mask, so that their texts attend to the padding",
    "position_ids": "prompts are padded on the left without position ids, so that the padding shifts their positions",
}
"""What is wrong, by the field that is."""


@dataclass(frozen=True)
class Written:
    """What a loop wrote after some prompts."""

    texts: tuple[tuple[int, ...], ...]
    """New tokens of each."""
    logits: Tensor
    """From which the first of them were chosen, (P, V) in float32."""


@torch.no_grad()
def padded_texts(model: TheirModel, prompts: Sequence[Tensor], padding: Padding, count: int) -> Written:
    """The likeliest tokens after each prompt (T,), one at a time, without a cache: so many of them."""
    width = max(len(prompt) for prompt in prompts)
    is_left = padding.side == "left"
    ids, mask = [], []
    for prompt in prompts:
        pads, ones = prompt.new_zeros(width - len(prompt)), torch.ones_like(prompt)
        ids.append(torch.cat((pads, prompt) if is_left else (prompt, pads)))
        mask.append(torch.cat((pads, ones) if is_left else (ones, pads)))
    read, seen = torch.stack(ids), torch.stack(mask)  # (B, T)
    first: list[Tensor] = []
    for _ in range(count):
        positions = (seen.cumsum(1) - 1).clamp(min=0) if padding.position_ids else None
        masked = seen if padding.attention_mask else torch.ones_like(seen)
        logits = model(read, attention_mask=masked, position_ids=positions, use_cache=False, logits_to_keep=1).logits[
            :, -1
        ]
        first = first or [logits.float()]
        read = torch.cat((read, logits.argmax(dim=-1, keepdim=True)), dim=1)
        seen = torch.cat((seen, torch.ones_like(seen[:, :1])), dim=1)
    return Written(tuple(tuple(row[width:].tolist()) for row in read), first[0])
