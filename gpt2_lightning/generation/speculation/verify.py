"""Verification of drafts: one pass over the last token and the draft of each text, and the choices at these places."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Chosen, Sampler
from gpt2_lightning.generation.speculation.drafter import Drafter
from gpt2_lightning.generation.speculation.outcome import DraftOutcome


class SpeculativeSteps:
    """The steps of a batch, in which each text gets as many tokens as the choices agree with its draft, and one more.

    The choice at a place is that of a step without a draft: from the same logits but for rounding, with the same
    history, penalties and filters, by the next random numbers of the row. A drafted token with the probability p under
    the settings is therefore accepted with the probability p, as in Leviathan et al. 2023, algorithm 1, for a draft
    without a distribution; but the text of a seed stays the same. Tokens after the first that differs are removed from
    the KV cache by its lengths.

    Where a window is about to slide, no draft exceeds it.

    Args:
        reader: after `start` and `keep`, with a text in each row.
        sampler: of the same rows.
        drafter: of the same rows.
    """

    def __init__(self, reader: Reader, sampler: Sampler, drafter: Drafter) -> None:
        self._reader, self._sampler, self._drafter = reader, sampler, drafter

    def run(self, logits: Tensor, count: int, ended: Collection[int]) -> Iterator[tuple[list[int], Chosen]]:
        """Yield some of the texts, by their numbers, and the next token of each.

        Args:
            logits: after the prompts, (R, V).
            count: tokens of each text.
            ended: numbers of the texts that have ended, updated by the caller after each token.

        Raises:
            UserError: if a text has no next token.
        """
        reader, rows = self._reader, list(range(len(logits)))
        texts = [reader.history.last(i, length).tolist() for i, length in enumerate(reader.history.lengths.tolist())]
        lengths = [len(text) + count for text in texts]
        drafts: list[list[int]] = [[] for _ in rows]
        logits = logits.unsqueeze(1)  # (R, T, V): the last token and the draft
        while True:
            yield from self._choose(logits, drafts, rows, texts, ended)
            going = [i for i, row in enumerate(rows) if row not in ended]
            if not going:
                return
            if len(going) < len(rows):
                rows, texts, lengths = ([values[i] for i in going] for values in (rows, texts, lengths))  # type: ignore[assignment]
                for part in (reader, self._sampler, self._drafter):
                    part.keep(going)
            for i in reader.full_rows:
                reader.slide(i)
            room = reader.cache.capacity - reader.cache.longest - 1
            limits = [min(length - len(text) - 1, room) for text, length in zip(texts, lengths, strict=True)]
            drafts = self._drafter.propose(texts, limits)
            logits = self._read([text[-1] for text in texts], drafts)

    def _choose(
        self,
        logits: Tensor,
        drafts: Sequence[Sequence[int]],
        rows: Sequence[int],
        texts: Sequence[list[int]],
        ended: Collection[int],
    ) -> Iterator[tuple[list[int], Chosen]]:
        """Choose the tokens of each text up to the first that is not that of its draft."""
        history, cache = self._reader.history, self._reader.cache
        lengths = [length - logits.size(1) + 1 for length in cache.lengths]
        going = list(range(len(rows)))
        for place in range(logits.size(1)):
            of = slice(None) if len(going) == len(rows) else going  # a view of all rows, a copy of some
            chosen = self._sampler.at(going).choose(
                logits[of, place], history.ids[of], history.lengths[of], history.prompt_lengths[of]
            )
            ids = chosen.ids.tolist()
            accepted = [drafts[i][place : place + 1] == [token] for i, token in zip(going, ids, strict=True)]
            outcomes = [
                DraftOutcome(is_drafted, 0 if is_drafted else max(0, len(drafts[i]) - place))
                for i, is_drafted in zip(going, accepted, strict=True)
            ]
            for i, token in zip(going, ids, strict=True):
                texts[i].append(token)
            yield [rows[i] for i in going], dataclasses.replace(chosen, outcomes=outcomes)
            on = [n for n, i in enumerate(going) if accepted[n] and rows[i] not in ended]
            going = [going[n] for n in on]
            if not going:
                break
            history.add_to(going, chosen.ids[on])
            for i in going:
                lengths[i] += 1
        cache.lengths = lengths

    def _read(self, last: Sequence[int], drafts: Sequence[Sequence[int]]) -> Tensor:
        """Logits (R, T, V) after the last token of each text and after each token of its draft, padded at the end."""
        reader, width = self._reader, 1 + max(map(len, drafts))
        padded = [[token, *draft, *[0] * (width - 1 - len(draft))] for token, draft in zip(last, drafts, strict=True)]
        ids = torch.tensor(padded, device=reader.history.padded.device)
        if width == 1:
            return reader.read(ids[:, 0]).unsqueeze(1)
        reader.history.add(ids[:, 0])
        return reader.model.lm_head(reader.model.features(ids, cache=reader.cache))
