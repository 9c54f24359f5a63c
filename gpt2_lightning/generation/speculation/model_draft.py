"""Drafts from a smaller model with the same vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Sampler
from gpt2_lightning.generation.speculation.draft_length import MOST, AcceptanceRate, best_length
from gpt2_lightning.model import GPT2, KVCache

_ASSUMED = 0.7
"""Assumed acceptance rate before the first draft."""
_PROBE = 2
"""Drafted tokens to see whether drafts pay by now."""
_PAUSES = (16, 256)
"""Passes without a draft where none pays: the first pause, and the longest, as each is twice as long as the last."""


class ModelDraft:
    """Drafts the tokens that the smaller model would generate with the same settings; see `Drafter`.

    It draws them with the random numbers by which the model will choose: then both choose the same token with a
    probability of at least (1 - D) / (1 + D), where D is the total variation distance of their distributions (Daliri et
    al. 2024, "Coupling without Communication and Drafter-Invariant Speculative Decoding"). The optimum over all ways to
    draw, 1 - D (Leviathan et al. 2023), would make the text depend on the draft.

    A text that exceeds the smaller context is read from a later token on.

    Args:
        model: the smaller model, in evaluation mode.
        reader: of the texts, after `start` and `keep`.
        sampler: of the texts.
    """

    def __init__(self, model: GPT2, reader: Reader, sampler: Sampler) -> None:
        self._model, self._reader, self._sampler = model, reader, sampler
        rows, held = len(reader.cache.lengths), reader.cache.keys[0]
        self._cache = KVCache(model.config, rows, held.device, held.dtype)
        self._cache.reset()
        self._starts = [0] * rows
        """Place in each text of the first cached token."""
        self._drafts: list[list[int]] = [[] for _ in range(rows)]
        self._drafted_at = [0] * rows
        """Length of each text at its last draft."""
        self._most = min(MOST, model.config.block_size // 2 - 1)
        self._rate = AcceptanceRate(_ASSUMED)
        self._cost = _cost(model) / _cost(reader.model)
        self._may_pay = best_length([rows] * MOST, rows, self._cost) > 0
        self._wait, self._pause = 0, _PAUSES[0]

    def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        self._learn(texts)
        length = min(self._length(len(texts)), self._most, max(limits))
        self._drafts = self._draft(texts, length) if length > 0 else [[] for _ in texts]
        self._drafts = [draft[: max(0, limit)] for draft, limit in zip(self._drafts, limits, strict=True)]
        self._drafted_at = [len(text) for text in texts]
        return self._drafts

    def keep(self, rows: Sequence[int]) -> None:
        self._cache.reorder(rows)
        self._starts, self._drafted_at = [self._starts[i] for i in rows], [self._drafted_at[i] for i in rows]
        self._drafts = [self._drafts[i] for i in rows]

    def _learn(self, texts: Sequence[list[int]]) -> None:
        """Compare the last drafts with the texts, and remove the rejected tokens from the cache."""
        for i, (text, draft, start) in enumerate(zip(texts, self._drafts, self._drafted_at, strict=True)):
            accepted = 0
            for token, drafted in zip(text[start:], draft, strict=False):
                self._rate.add(token == drafted)
                if token != drafted:
                    break
                accepted += 1
            self._cache.lengths[i] = min(self._cache.lengths[i], start - self._starts[i] + accepted)

    def _length(self, rows: int) -> int:
        """Number of tokens to draft: the best one by the acceptance so far; now and then a few where that is 0."""
        length = best_length([rows * self._rate.rate**i for i in range(1, MOST + 1)], rows, self._cost)
        if length or not self._may_pay:
            self._wait, self._pause = 0, _PAUSES[0]
            return length
        if self._wait == 0:
            self._wait, self._pause = self._pause, min(2 * self._pause, _PAUSES[1])
            return 0
        self._wait -= 1
        return 0 if self._wait else _PROBE

    def _draft(self, texts: Sequence[list[int]], length: int) -> list[list[int]]:
        sampler, history = self._sampler.ahead(), self._reader.history.copy()
        last = torch.tensor([text[-1] for text in texts], device=history.padded.device)
        drafts: list[list[int]] = [[] for _ in texts]
        logits = self._catch_up(texts, length)  # (R, V)
        for _ in range(length):
            history.add(last)
            noise = sampler.noise_for(logits)
            sampler.draw(noise)
            last = sampler.select(logits, noise, history.ids, history.lengths, history.prompt_lengths).ids.clamp(min=0)
            for draft, token in zip(drafts, last.tolist(), strict=True):
                draft.append(token)
            if len(drafts[0]) < length:
                logits = self._logits(last.unsqueeze(1))[:, -1]
        return drafts

    def _catch_up(self, texts: Sequence[list[int]], length: int) -> Tensor:
        """Read the tokens of each text that have not been read; logits (R, V) after the last ones."""
        cache, block_size = self._cache, self._model.config.block_size
        device = cache.keys[0].device
        for i, text in enumerate(texts):
            if len(text) - self._starts[i] + length + 1 > block_size:
                self._starts[i], cache.lengths[i] = len(text) - min(len(text), block_size // 2), 0
            unread = text[self._starts[i] + cache.lengths[i] : -1]
            if len(unread) > 1:
                row = cache.row(i)
                row.lengths = [cache.lengths[i]]
                self._model.features(torch.tensor([unread], device=device), cache=row)
                cache.lengths[i] += len(unread)
        before = cache.lengths
        left = [text[start + cached :] for text, start, cached in zip(texts, self._starts, before, strict=True)]
        width = max(map(len, left))  # 1, or 2 where the last draft was accepted as a whole
        ids = torch.tensor([[*unread, *[0] * (width - len(unread))] for unread in left], device=device)
        logits = self._logits(ids)  # (R, width, V)
        cache.lengths = [cached + len(unread) for cached, unread in zip(before, left, strict=True)]
        return logits[range(len(left)), [len(unread) - 1 for unread in left]]

    def _logits(self, ids: Tensor) -> Tensor:
        return self._model.lm_head(self._model.features(ids, cache=self._cache))


def _cost(model: GPT2) -> float:
    """Time of a pass over one token, in units of the time for a weight, with that for small operations of a layer."""
    config = model.config
    return config.n_layer * (12 * config.n_embd**2 + 1e6) + config.vocab_size * config.n_embd
