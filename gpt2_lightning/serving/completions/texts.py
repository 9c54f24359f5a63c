"""The text of one choice, from the pieces of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpt2_lightning.generation import Piece
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.reading import detail
from gpt2_lightning.serving.schemas import TokenDetail

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Delta:
    """What is added to a text."""

    text: str
    tokens: tuple[TokenDetail, ...]
    """The tokens of the text; empty if log-probabilities were not asked for."""
    finish_reason: FinishReason | None


class ChoiceText:
    """Joins pieces to deltas in which text and tokens belong together.

    A token is held until a character of it is decided: while a character is incomplete, and while the text may be the
    beginning of a stop string. The tokens of a stop string and an end of text are left out.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._held: list[tuple[int, TokenDetail]] = []  # with the byte at which each begins
        self._read = 0
        self._released = 0
        self.n_tokens = 0
        """Tokens generated, those that are left out as well."""

    def add(self, piece: Piece) -> Delta | None:
        """Add a piece; None if nothing is decided by it."""
        token = piece.token
        self.n_tokens += 1
        if token.finished != "end_of_text" and token.log_probability is not None:
            self._held.append((self._read, detail(self._served, token.id, token.log_probability, token.likeliest)))
            self._read += len(self._served.tokenizer.token_bytes(token.id))
        self._released += len(piece.text.encode())
        if not piece.text and not piece.finished:
            return None
        if piece.finished in ("end_of_text", "length"):
            decided, self._held = self._held, []
        else:
            decided = [held for held in self._held if held[0] < self._released]
            self._held = self._held[len(decided) :]
        reason: FinishReason | None = None if not piece.finished else "length" if piece.finished == "length" else "stop"
        return Delta(piece.text, tuple(found for _, found in decided), reason)
