"""Token ids in, token ids out: generation without texts, as `generate` of transformers has it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Decoder, search
from gpt2_lightning.generation.speculation.draft import Draft
from gpt2_lightning.model import GPT2

Ids = Tensor | np.ndarray[Any, Any] | list[int]
"""Token ids of one text, (T,), such as the array that `encode` of a tokenizer returns; a tensor or array may also hold
several texts of the same length, (B, T)."""


def batch_of(ids: Ids, network: GPT2) -> Tensor:
    """Check token ids, and put them on the network's device.

    Returns:
        (B, T), int64, B and T >= 1.

    Raises:
        UserError: if there are none, they have another shape or type, or the vocabulary lacks one.
    """
    batch, vocab_size = torch.as_tensor(ids), network.config.vocab_size
    if not batch.numel():
        raise UserError("ids: there are none, one token or more is needed")
    if batch.is_floating_point() or batch.dim() not in (1, 2):
        raise UserError(f"ids: {tuple(batch.shape)} of {batch.dtype} does not fit, (T,) or (B, T) of integers does")
    batch = batch.to(network.wte.weight.device, torch.int64)
    lowest, highest = int(batch.min()), int(batch.max())
    if lowest < 0 or highest >= vocab_size:
        raise UserError(f"ids: {min(lowest, 0) or highest} is out of range, 0 to {vocab_size - 1} is allowed")
    return batch if batch.dim() == 2 else batch.unsqueeze(0)


def generate_ids(
    network: GPT2, prompts: Tensor, settings: GenerationSettings, ends: Collection[int], draft: Draft | None = None
) -> list[list[int]]:
    """Continue prompts.

    Args:
        network: in evaluation mode.
        prompts: (B, T).
        settings: without those that concern texts.
        ends: the ids that end a text; none to continue up to `max_new_tokens`.
        draft: see `Decoder`.

    Returns:
        `num_samples` texts for each prompt: its ids, those that follow, and the id that ended it, if one did.

    Raises:
        UserError: if a setting does not apply to ids.
    """
    for name in ("stop", "bad_words", "choices", "special_tokens"):
        if getattr(settings, name):
            raise UserError(f"{name}: it applies to prompts that are texts; leave it out, or pass a string")
    refuse_system(settings)
    if settings.n_beams > 1:
        rows = []
        for prompt in prompts:
            for beam in search(network, prompt, settings, ends)[: settings.num_samples]:
                ending = [] if beam.end is None else [beam.end]
                rows.append([*prompt.tolist(), *beam.ids, *ending])
        return rows
    rows = [prompt.tolist() for prompt in prompts for _ in range(settings.num_samples)]
    for step in Decoder(network, list(prompts), settings, settings.num_samples, ends, draft=draft):
        for token in step:
            rows[token.row].append(token.id)
    return rows


def refuse_system(settings: GenerationSettings) -> None:
    """Refuse a system message for a prompt without a template.

    Raises:
        UserError: if there is one.
    """
    if settings.system is not None:
        raise UserError("system: it is for a model trained on instructions, without raw=true; leave it out")
