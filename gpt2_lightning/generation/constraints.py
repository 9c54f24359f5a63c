"""Tokens that a text must not have, or must.

Scores are logits or log-probabilities, (R, V), and `history` is as in `penalties`. What is banned is -inf, as in the
logits processors of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError

_BANNED = float("-inf")


def add_bias(scores: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add a number to the scores of tokens, by their ids."""
    added = torch.zeros(scores.size(-1), device=scores.device)
    added[_known(list(bias), scores, "logit_bias")] = torch.tensor(list(bias.values()), device=scores.device)
    return scores + added


def ban_tokens(scores: Tensor, ids: Collection[int]) -> Tensor:
    """Ban tokens, by their ids."""
    return scores.index_fill(1, _known(list(ids), scores, "suppress_tokens"), _BANNED)


def ban_sequences(scores: Tensor, history: Tensor, lengths: Tensor, sequences: Collection[Sequence[int]]) -> Tensor:
    """Ban the last token of each sequence of ids, where prompt and text end in those before it."""
    scores = scores.clone()
    for *begin, last in sequences:
        _known([last], scores, "bad_words_ids")
        if len(begin) > history.size(1):
            continue
        positions = lengths.unsqueeze(1) + torch.arange(-len(begin), 0, device=history.device)  # (R, len(begin))
        same = history.gather(1, positions.clamp(min=0)) == torch.tensor(begin, device=history.device)
        scores[(same & (positions >= 0)).all(dim=1), last] = _BANNED
    return scores


def ban_ends(scores: Tensor, lengths: Tensor, prompt_lengths: Tensor, ends: Collection[int], minimum: int) -> Tensor:
    """Ban the ids that end a text, in texts with fewer new tokens than `minimum`."""
    is_short = (lengths - prompt_lengths < minimum).unsqueeze(1)
    is_end = torch.zeros(scores.size(-1), dtype=torch.bool, device=scores.device)
    is_end[_known(list(ends), scores, "eos_token_id")] = True
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
        kept[row, _known(allowed, scores, "choices")] = True
    return scores.masked_fill(~kept, _BANNED)


def begins(choice: Sequence[int], text: Sequence[int]) -> bool:
    """Whether a choice begins with the ids of a text."""
    return list(choice[: len(text)]) == list(text)


def _generated(history: Tensor, lengths: Tensor, prompt_lengths: Tensor) -> Iterator[list[int]]:
    """Yield the new ids of each text."""
    for ids, start, end in zip(history.tolist(), prompt_lengths.tolist(), lengths.tolist(), strict=True):
        yield ids[start:end]


def _known(ids: list[int], scores: Tensor, setting: str) -> Tensor:
    if unknown := [token for token in ids if not 0 <= token < scores.size(-1)]:
        raise UserError(f"{setting}: the id {unknown[0]} is out of range, 0 to {scores.size(-1) - 1} is allowed")
    return torch.tensor(ids, dtype=torch.int64, device=scores.device)
