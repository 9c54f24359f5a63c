"""Penalties and constraints of one generation, in the order in which they act on the logits."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from gpt2_lightning.generation.constraints import (
    ban_ends,
    ban_sequences,
    ban_tokens,
    bias_vector,
    id_mask,
    keep_choices,
)
from gpt2_lightning.generation.penalties import ban_repeated_ngrams, penalize_generated, penalize_repetition
from gpt2_lightning.generation.settings import Sampling


class LogitsProcessor:
    """The penalties and constraints of a generation. Its ids are tensors on the device from the start.

    A call is a function of tensors alone, unless the settings have choices.

    Args:
        sampling: the settings.
        ends: ids that end a text.
        vocab_size: V.
        device: of the scores.

    Raises:
        UserError: if a setting has an id that the vocabulary lacks.
    """

    def __init__(self, sampling: Sampling, ends: Collection[int], vocab_size: int, device: torch.device) -> None:
        self.sampling, self.ends = sampling, ends
        self._bias = bias_vector(sampling.logit_bias, vocab_size, device) if sampling.logit_bias else None
        words = [ids for ids in sampling.bad_words_ids if tuple(ids) not in {(end,) for end in ends}]
        id_mask([ids[-1] for ids in words], vocab_size, device, "bad_words_ids")  # checked
        self._words = [(torch.tensor(begin, dtype=torch.int64, device=device), last) for *begin, last in words]
        has_least = bool(sampling.min_new_tokens and ends)
        self._is_end = id_mask(ends, vocab_size, device, "eos_token_id") if has_least else None
        suppressed = sampling.suppress_tokens
        self._suppressed = id_mask(suppressed, vocab_size, device, "suppress_tokens") if suppressed else None

    def __call__(self, scores: Tensor, history: Tensor, lengths: Tensor, prompt_lengths: Tensor) -> Tensor:
        """Scores (R, V) after all penalties and constraints; see `penalties` for the shapes."""
        settings = self.sampling
        if self._bias is not None:
            scores = scores + self._bias
        if settings.repetition_penalty != 1:
            scores = penalize_repetition(scores, history, lengths, settings.repetition_penalty)
        if settings.presence_penalty != 0 or settings.frequency_penalty != 0:
            scores = penalize_generated(
                scores, history, prompt_lengths, lengths, settings.presence_penalty, settings.frequency_penalty
            )
        if settings.no_repeat_ngram_size is not None:
            scores = ban_repeated_ngrams(scores, history, lengths, settings.no_repeat_ngram_size)
        if self._words:
            scores = ban_sequences(scores, history, lengths, self._words)
        if self._is_end is not None:
            scores = ban_ends(scores, lengths, prompt_lengths, self._is_end, settings.min_new_tokens)
        if settings.choices_ids:
            scores = keep_choices(scores, history, lengths, prompt_lengths, settings.choices_ids, self.ends)
        if self._suppressed is not None:
            scores = ban_tokens(scores, self._suppressed)
        return scores
