"""Choice of the next token.

    sampler = Sampler(sampling, rows=R, device=device)
    chosen = sampler.choose(logits, history, lengths, prompt_lengths)   # each step; chosen.ids is (R,)
    sampler.keep(rows)                                                  # after finished rows left the batch

`history`, (R, L) ids padded at the end, and its lengths are used only if `sampling.reads_history`. For beams see
`beams.beam_search`, which takes the same settings.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.processors import LogitsProcessor
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.speculation.outcome import DraftOutcome

__all__ = ["Chosen", "Sampler", "Sampling", "why_no_token"]


@dataclass(frozen=True)
class Chosen:
    """Tokens of one step.

    Log-probabilities are natural logarithms of the model's own distribution, before penalties, temperature and filters,
    which makes them comparable between settings. They are None unless `Sampling.log_probabilities` is set.
    """

    ids: Tensor
    """(R,) int64; -1 where none can be chosen."""
    log_probabilities: Tensor | None = None
    """Of the chosen tokens, (R,) float32."""
    top_ids: Tensor | None = None
    """The n likeliest tokens, (R, n) int64, likeliest first; these need not include the chosen one."""
    top_log_probabilities: Tensor | None = None
    """Theirs, (R, n) float32."""
    outcomes: Sequence[DraftOutcome] | None = None
    """What became of the draft of each row at this token; None without speculation."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Chosen:
        """Apply a function to each of the tensors."""
        log_probabilities, top_ids, top = (
            None if tensor is None else function(tensor)
            for tensor in (self.log_probabilities, self.top_ids, self.top_log_probabilities)
        )
        return Chosen(function(self.ids), log_probabilities, top_ids, top, self.outcomes)


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
        self._process: LogitsProcessor | None = None

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows of the current batch, in this order."""
        self._generators = [self._generators[row] for row in rows]

    def at(self, rows: Sequence[int]) -> Sampler:
        """A sampler of these rows of the current batch, which draws from the same generators; itself for all rows."""
        if list(rows) == list(range(len(self._generators))):
            return self
        other = copy.copy(self)
        other.keep(rows)
        return other

    def ahead(self) -> Sampler:
        """A sampler that draws the random numbers which this one will draw."""
        other = copy.copy(self)
        other._generators = [generator.clone_state() for generator in self._generators]
        return other

    def choose(self, logits: Tensor, history: Tensor, lengths: Tensor, prompt_lengths: Tensor) -> Chosen:
        """Choose the next token of each row: `draw`, then `select`.

        Raises:
            UserError: if no token can be chosen because all would repeat an n-gram, or because logits are NaN.
        """
        noise = self.noise_for(logits)
        self.draw(noise)
        chosen = self.select(logits, noise, history, lengths, prompt_lengths)
        self.check(chosen, logits)
        return chosen

    def noise_for(self, logits: Tensor) -> Tensor | None:
        """A tensor for the random numbers of a step, float32 (R, V); None at temperature 0, which needs none."""
        return None if self.sampling.temperature == 0 else torch.empty_like(logits, dtype=torch.float32)

    def draw(self, noise: Tensor | None) -> None:
        """Fill the noise of a step by the generators of the rows.

        Every token of the vocabulary gets a random number, also those of probability 0: with fewer numbers, the same
        seed would draw other tokens than Hugging Face.
        """
        if noise is not None:
            for row, generator in zip(noise, self._generators, strict=True):
                row.exponential_(generator=generator)

    def select(
        self, logits: Tensor, noise: Tensor | None, history: Tensor, lengths: Tensor, prompt_lengths: Tensor
    ) -> Chosen:
        """Choose the next token of each row, as a function of tensors alone unless the settings have choices.

        With noise, the choice is an exponential race, as inside torch.multinomial: the largest probability / noise.

        Args:
            logits: (R, V), any float type; computed in float32.
            noise: see `draw`.
            history: ids of prompt and text so far, (R, L) int64, padded at the end.
            lengths: number of ids of each row without padding, (R,) int64.
            prompt_lengths: number of prompt ids of each row, (R,) int64.
        """
        logits = logits.float()
        if self._process is None:
            self._process = LogitsProcessor(self.sampling, self.ends, logits.size(-1), logits.device)
        scores = self._process(logits, history, lengths, prompt_lengths)
        if noise is not None:
            scores = self.sampling.filtered(scores).softmax(dim=-1) / noise
        best, ids = scores.max(dim=-1)
        return self._with_log_probabilities(ids.masked_fill(~(best > float("-inf")), -1), logits)

    def check(self, chosen: Chosen, logits: Tensor) -> None:
        """Raise the error of `choose`, if a row has no token.

        Raises:
            UserError: see `choose`.
        """
        if (chosen.ids < 0).any():
            raise UserError(why_no_token(logits, self.sampling))

    def _with_log_probabilities(self, ids: Tensor, logits: Tensor) -> Chosen:
        count = self.sampling.log_probabilities
        if count is None:
            return Chosen(ids)
        log_probabilities = logits.log_softmax(dim=-1)
        top, top_ids = log_probabilities.topk(min(count, logits.size(-1)))
        of_chosen = log_probabilities.gather(1, ids.clamp(min=0).unsqueeze(1)).squeeze(1)
        return Chosen(ids, of_chosen, top_ids, top)


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
