"""Padding of prompts of different lengths in a hand-written loop around a transformers model, correct or not."""

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
    """Padding of a batch. The defaults are correct; any other value is an error (a slip)."""

    side: Literal["left", "right"] = "left"
    attention_mask: bool = True
    """Whether padding is masked in attention."""
    position_ids: bool = True
    """Whether the positions of each text start at 0; without position ids, GPT-2 counts padding."""

    def slips(self) -> list[str]:
        """Return the names of fields with an incorrect value."""
        right = Padding()
        return [
            field.name for field in dataclasses.fields(self) if getattr(self, field.name) != getattr(right, field.name)
        ]

    def without(self, fields: Sequence[str]) -> Padding:
        """Return a copy with some fields corrected."""
        right = Padding()
        return dataclasses.replace(self, **{name: getattr(right, name) for name in fields})


SENTENCES = {
    "side": "prompts are padded on the right, so that their texts go on after the padding",
    "attention_mask": "prompts are padded without an attention mask, so that their texts attend to the padding",
    "position_ids": "prompts are padded on the left without position ids, so that the padding shifts their positions",
}
"""Description of each error by field."""


@dataclass(frozen=True)
class Written:
    """Texts of a loop, for P prompts."""

    texts: tuple[tuple[int, ...], ...]
    """New tokens by prompt."""
    logits: Tensor
    """Logits of the first new token, (P, V), float32."""


@torch.no_grad()
def padded_texts(model: TheirModel, prompts: Sequence[Tensor], padding: Padding, count: int) -> Written:
    """Generate `count` tokens after each prompt (T,) by greedy decoding without a KV cache."""
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
