"""Drafts from the text itself: what followed the last tokens where they occurred before.

Prompt lookup decoding, A. Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding. It pays where a text
repeats its prompt or itself, as in edits, summaries and code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpt2_lightning.generation.speculation.draft_length import MOST, AcceptanceRate, best_length

_SIZES = (8, 4, 2, 1)
"""Lengths of n-grams that are looked up, the longest first."""
_LONGEST = 16
"""Longest match that is scored by itself; longer ones share its score."""
_ASSUMED = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Assumed acceptance rates for matches of 0, 1, 2-3, 4-7, 8-15 and 16 tokens."""


class Lookup:
    """Drafts tokens of a batch by `TextIndex`; see `Drafter`.

    Args:
        rows: texts of the batch.
    """

    def __init__(self, rows: int) -> None:
        self._indices = [TextIndex() for _ in range(rows)]

    def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        for index, text in zip(self._indices, texts, strict=True):
            index.read(text)
        chances = [list(index.chances(limit)) for index, limit in zip(self._indices, limits, strict=True)]
        expected = [sum(row[i] for row in chances if i < len(row)) for i in range(max(map(len, chances)))]
        length = best_length(expected, len(texts))
        return [index.draft(min(length, len(row))) for index, row in zip(self._indices, chances, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        self._indices = [self._indices[row] for row in rows]


class TextIndex:
    """The n-grams of a text, and the place of an earlier occurrence of its end.

    The place says which token comes next. Each token of the text, of the prompt too, is compared with what the place
    said, which costs no pass of the model: the acceptance rate after matches of each length is known before the first
    draft, and where the text does not repeat there is none.
    """

    def __init__(self) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """The place after the last occurrence of each n-gram that is followed by a token."""
        self._place: int | None = None
        """Place of the token that should come next."""
        self._matched = 0
        """Tokens before the place that equal the end of the text, up to `_LONGEST`."""
        self._rates = [AcceptanceRate(rate) for rate in _ASSUMED]

    def read(self, text: list[int]) -> None:
        """Read the tokens that were added to the text."""
        for token in text[len(self._text) :]:
            self._add(token)

    def chances(self, limit: int) -> Iterator[float]:
        """Probability that the 1st, 2nd, … token of a draft is accepted with all before it.

        Args:
            limit: largest number of drafted tokens.
        """
        if self._place is not None:
            chance = 1.0
            for i in range(min(limit, MOST)):
                chance *= self._rate(self._matched + i).rate
                yield chance

    def draft(self, length: int) -> list[int]:
        """The tokens at the place; one that reaches the end of the text goes on with the draft itself."""
        found: list[int] = []
        if self._place is not None:
            distance = len(self._text) - self._place
            for i in range(length):
                found.append(self._text[self._place + i] if i < distance else found[i - distance])
        return found

    def _add(self, token: int) -> None:
        was_right = self._place is not None and self._text[self._place] == token
        if self._place is not None:
            self._rate(self._matched).add(was_right)
            self._place += 1
        text, end = self._text, len(self._text)
        for size in _SIZES:
            if size <= end:
                self._after[tuple(text[end - size :])] = end
        text.append(token)
        self._matched = min(self._matched + 1, _LONGEST) if was_right else 0
        if self._matched < _SIZES[0]:
            self._look_up()

    def _look_up(self) -> None:
        text, end = self._text, len(self._text)
        sizes = (size for size in _SIZES if size <= end)
        self._place = next((place for size in sizes if (place := self._after.get(tuple(text[end - size :])))), None)
        self._matched = 0
        if self._place is not None:
            for one, other in zip(range(self._place - 1, -1, -1), range(end - 1, end - 1 - _LONGEST, -1), strict=False):
                if text[one] != text[other]:
                    break
                self._matched += 1

    def _rate(self, matched: int) -> AcceptanceRate:
        return self._rates[min(matched, _LONGEST).bit_length()]
