"""Beam search for the texts of the highest log-probability."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.processors import LogitsProcessor
from gpt2_lightning.generation.sampling import why_no_token
from gpt2_lightning.generation.settings import Sampling

Step = Callable[[Tensor, Tensor], Tensor]
"""Function of ids (n,) and the rows (n,) that they follow, which returns next-token logits (n, V).

Row i of the next step continues row `rows[i]` of this one, so a cache is reordered first. In the first call all rows
are 0: the single row of the prompt becomes n rows.
"""


@dataclass(frozen=True)
class Beam:
    """A text found by beam search."""

    ids: tuple[int, ...]
    """Ids after the prompt, without the end of text."""
    end: int | None
    """The id that ended it; None if `max_new_tokens` did."""
    score: float
    """Log-probability after penalties, divided by the number of tokens to the power of `length_penalty`."""


@torch.inference_mode()
def beam_search(
    prompt: Tensor,
    first_logits: Tensor,
    step: Step,
    sampling: Sampling,
    end_of_text: int | Collection[int] | None = None,
) -> list[Beam]:
    """Find the best `n_beams` texts, best first, as Hugging Face's `generate(num_beams=n_beams)` does.

    Args:
        prompt: ids of shape (T,), T >= 1.
        first_logits: next-token logits of the prompt, (1, V).
        step: appends one token to each beam.
        sampling: `n_beams`, `length_penalty`, `early_stopping`, `max_new_tokens` and the penalties are used.
        end_of_text: id or ids that end a text.

    Raises:
        UserError: if the vocabulary is too small for n_beams, if n-grams leave no token, or if logits are NaN.
    """
    n, vocab_size = sampling.n_beams, first_logits.size(-1)
    ends = torch.tensor(sorted(sampling.ends(end_of_text)), device=prompt.device)
    candidates = max(2, 1 + len(ends)) * n  # at most one for each end of a beam ends the text, so at least n go on
    if vocab_size < candidates:
        most = vocab_size * n // candidates
        raise UserError(f"n_beams={n} is too many for a vocabulary of {vocab_size}, at most {most} fit")
    logits = first_logits
    texts = prompt.unsqueeze(0)  # (1, T), later (n, T + length): the open beams, best first
    sums = torch.zeros(1, device=prompt.device)  # (1,), later (n,): their log-probabilities
    finished: list[Beam] = []
    process = LogitsProcessor(sampling, ends.tolist(), vocab_size, prompt.device)
    for length in range(1, sampling.max_new_tokens + 1):
        scores = (_log_probabilities(logits, texts, len(prompt), process) + sums.unsqueeze(1)).flatten()
        sums, where = scores.topk(candidates)
        rows, ids = where // vocab_size, where % vocab_size
        texts = torch.cat((texts[rows], ids.unsqueeze(1)), dim=1)
        ended = torch.isin(ids, ends)
        over = ended | (length == sampling.max_new_tokens)
        done = over[:n].nonzero().squeeze(1)  # texts that end below the best n are dropped
        finished += _beams(texts[done, len(prompt) :], ended[done], sums[done] / length**sampling.length_penalty)
        finished = sorted(finished, key=lambda beam: beam.score, reverse=True)[:n]
        sums, going_on = sums.masked_fill(over, float("-inf")).topk(n)
        if _is_settled(finished, sums[0], length, sampling):
            break
        texts = texts[going_on]
        logits = step(ids[going_on], rows[going_on])
    if not finished:
        raise UserError(why_no_token(logits, sampling))
    return finished


def _log_probabilities(logits: Tensor, texts: Tensor, prompt_length: int, process: LogitsProcessor) -> Tensor:
    """Log-probabilities (n, V) after penalties, which apply to log-probabilities here, as in Hugging Face."""
    lengths = torch.full((len(texts),), texts.size(1), device=texts.device)
    prompt_lengths = torch.full_like(lengths, prompt_length)
    return process(logits.float().log_softmax(dim=-1), texts, lengths, prompt_lengths)


def _beams(texts: Tensor, ended: Tensor, scores: Tensor) -> list[Beam]:
    """Beams of the texts after the prompt, (k, length), that have a finite score."""
    return [
        Beam(tuple(ids[:-1] if has_ended else ids), ids[-1] if has_ended else None, score)
        for ids, has_ended, score in zip(texts.tolist(), ended.tolist(), scores.tolist(), strict=True)
        if score > float("-inf")
    ]


def _is_settled(finished: list[Beam], best_sum: Tensor, length: int, sampling: Sampling) -> bool:
    """Whether no open beam can improve on the finished ones; `best_sum` is the log-probability of the best, or -inf."""
    full = len(finished) == sampling.n_beams
    if full and sampling.early_stopping is True:
        return True
    if sampling.early_stopping == "never" and sampling.length_penalty > 0:
        length = sampling.max_new_tokens
    to_beat = finished[-1].score if full else float("-inf")
    return not float(best_sum / length**sampling.length_penalty) > to_beat
