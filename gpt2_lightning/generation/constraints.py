"""Tokens that a text must not have, or must.

Scores are logits or log-probabilities, (R, V), and `history` is as in `penalties`. What is banned is -inf, as in the
logits processors of Hugging Face. Ids of settings come as tensors on the device of the scores, see `id_mask`: copying
them there at every token would make a GPU wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError

_BANNED = float("-inf")


def id_mask(ids: Collection[int], vocab_size: int, device: torch.device, setting: str) -> Tensor:
    """Mask of the vocabulary that is true at these ids: bool (V,).

    Raises:
        UserError: with the name of the setting, if the vocabulary lacks one of the ids.
    """
    mask = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    mask[_known(ids, vocab_size, device, setting)] = True
    return mask


def bias_vector(bias: Mapping[int, float], vocab_size: int, device: torch.device) -> Tensor:
    """What is added to the scores of all tokens, float32 (V,), given the numbers by id.

    Raises:
        UserError: if the vocabulary lacks one of the ids.
    """
    vector = torch.zeros(vocab_size, device=device)
    vector[_known(bias, vocab_size, device, "logit_bias")] = torch.tensor(list(bias.values()), device=device)
    return vector


def ban_tokens(scores: Tensor, banned: Tensor) -> Tensor:
    """Ban the tokens where `banned`, bool (V,), is true."""
    return scores.masked_fill(banned, _BANNED)


def ban_sequences(
    scores: Tensor, history: Tensor, lengths: Tensor, sequences: Collection[tuple[Tensor, int]]
) -> Tensor:
    """Ban the last id of each sequence where prompt and text end in the ids before it, int64 (n,), n >= 0."""
    scores = scores.clone()
    for begin, last in sequences:
        if len(begin) > history.size(1):
            continue
        positions = lengths.unsqueeze(1) + torch.arange(-len(begin), 0, device=history.device)  # (R, len(begin))
        same = history.gather(1, positions.clamp(min=0)) == begin
        scores[:, last].masked_fill_((same & (positions >= 0)).all(dim=1), _BANNED)
    return scores


def ban_ends(scores: Tensor, lengths: Tensor, prompt_lengths: Tensor, is_end: Tensor, minimum: int) -> Tensor:
    """Ban the ids that end a text, where `is_end`, bool (V,), in texts with fewer new tokens than `minimum`."""
    is_short = (lengths - prompt_lengths < minimum).unsqueeze(1)
    return scores.masked_fill(is_short & is_end, _BANNED)


def keep_choices(
    scores: Tensor,
    history: Tensor,
    lengths: Tensor,
    prompt_lengths: Tensor,
    choices: Collection[Sequence[int]],
    ends: Collection[int],
) -> Tensor:
    """Keep the tokens that continue one of the choices, and after a complete one the ends of a text."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row, text in enumerate(_generated(history, lengths, prompt_lengths)):
        allowed = [choice[len(text)] for choice in choices if len(choice) > len(text) and begins(choice, text)]
        if any(list(choice) == text for choice in choices):
            allowed += ends
        kept[row, _known(allowed, scores.size(-1), scores.device, "choices")] = True
    return scores.masked_fill(~kept, _BANNED)


def begins(choice: Sequence[int], text: Sequence[int]) -> bool:
    """Whether a choice begins with the ids of a text."""
    return list(choice[: len(text)]) == list(text)


def _generated(history: Tensor, lengths: Tensor, prompt_lengths: Tensor) -> Iterator[list[int]]:
    """Yield the new ids of each text."""
    for ids, start, end in zip(history.tolist(), prompt_lengths.tolist(), lengths.tolist(), strict=True):
        yield ids[start:end]


def _known(ids: Collection[int], vocab_size: int, device: torch.device, setting: str) -> Tensor:
    if unknown := [token for token in ids if not 0 <= token < vocab_size]:
        raise UserError(f"{setting}: the id {unknown[0]} is out of range, 0 to {vocab_size - 1} is allowed")
    return torch.tensor(list(ids), dtype=torch.int64, device=device)
