"""Choice of the next token.

    sampler = Sampler(sampling, rows=R, device=device)
    chosen = sampler.choose(logits, history, lengths, prompt_lengths)   # each step; chosen.ids is (R,)
    sampler.keep(rows)                                                  # after finished rows left the batch

`history`, (R, L) ids padded at the end, and its lengths are used only if `sampling.reads_history`. For beams see
`beams.beam_search`, which takes the same settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.settings import Sampling

__all__ = ["Chosen", "Sampler", "Sampling", "why_no_token"]


@dataclass(frozen=True)
class Chosen:
    """Tokens of one step.

    Log-probabilities are natural logarithms of the model's own distribution, before penalties, temperature and filters,
    which makes them comparable between settings. They are None unless `Sampling.log_probabilities` is set.
    """

    ids: Tensor
    """(R,) int64."""
    log_probabilities: Tensor | None = None
    """Of the chosen tokens, (R,) float32."""
    top_ids: Tensor | None = None
    """The n likeliest tokens, (R, n) int64, likeliest first; these need not include the chosen one."""
    top_log_probabilities: Tensor | None = None
    """Theirs, (R, n) float32."""


class Sampler:
    """Samples a token for each row of a batch.

    Each row has its own random generator, which makes its text independent of the batch. Row 0 draws the tokens that
    Hugging Face's loop draws for one prompt after `torch.manual_seed(seed)`.

    Args:
        sampling: the settings.
        rows: texts in the batch, R.
        device: of the logits.
        first_row: number of rows in earlier batches.
        ends: ids that end a text.
    """

    def __init__(
        self,
        sampling: Sampling,
        rows: int,
        device: torch.device | str,
        first_row: int = 0,
        ends: Collection[int] = (),
    ) -> None:
        self.sampling, self.ends = sampling, ends
        self._generators = [
            torch.Generator(device).manual_seed(row_seed(sampling.seed, row))
            for row in range(first_row, first_row + rows)
        ]

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order: indices (R',) into the current batch."""
        self._generators = [self._generators[row] for row in rows.tolist()]

    def choose(self, logits: Tensor, history: Tensor, lengths: Tensor, prompt_lengths: Tensor) -> Chosen:
        """Choose the next token of each row.

        Args:
            logits: (R, V), any float type; computed in float32.
            history: ids of prompt and text so far, (R, L) int64, padded at the end.
            lengths: number of ids of each row without padding, (R,) int64.
            prompt_lengths: number of prompt ids of each row, (R,) int64.

        Raises:
            UserError: if no token can be chosen because all would repeat an n-gram, or because logits are NaN.
        """
        logits = logits.float()
        scores = self.sampling.penalized(logits, history, lengths, prompt_lengths, self.ends)
        if self.sampling.temperature != 0:
            scores = self._exponential_race(self.sampling.filtered(scores).softmax(dim=-1))
        best, ids = scores.max(dim=-1)
        if not (best > float("-inf")).all():
            raise UserError(why_no_token(logits, self.sampling))
        return self._with_log_probabilities(ids, logits)

    def _exponential_race(self, probabilities: Tensor) -> Tensor:
        """Scores (R, V) whose maximum is a sample, as inside torch.multinomial, with a generator for each row.

        Every token of the vocabulary gets a random number, also those of probability 0: with fewer numbers, the same
        seed would draw other tokens than Hugging Face.
        """
        noise = torch.empty_like(probabilities)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return probabilities / noise

    def _with_log_probabilities(self, ids: Tensor, logits: Tensor) -> Chosen:
        count = self.sampling.log_probabilities
        if count is None:
            return Chosen(ids)
        log_probabilities = logits.log_softmax(dim=-1)
        top, top_ids = log_probabilities.topk(min(count, logits.size(-1)))
        return Chosen(ids, log_probabilities.gather(1, ids.unsqueeze(1)).squeeze(1), top_ids, top)


def why_no_token(logits: Tensor, sampling: Sampling) -> str:
    """Error message for logits (R, V) of which some row leaves no token to choose."""
    size = sampling.no_repeat_ngram_size
    others = ("min_new_tokens", "suppress_tokens", "logit_bias", "bad_words_ids", "choices_ids")
    set_here = [name for name in others if getattr(sampling, name)]
    if logits.isnan().any() or (size is None and not set_here):
        return "the model's logits are not numbers (NaN): its weights are damaged, or its precision is too low"
    if set_here:
        names = ", ".join([*(["no_repeat_ngram_size"] if size else []), *set_here])
        return f"{names}: together they leave no token to choose; relax one of them"
    return f"no_repeat_ngram_size={size} leaves no token to choose: use a larger one, or a smaller max_new_tokens"


def row_seed(seed: int, row: int) -> int:
    """Seed of the generator of a row: the seed itself for row 0, a hash of seed and row for the others."""
    if row == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed},{row}".encode(), digest_size=8).digest()) >> 1
