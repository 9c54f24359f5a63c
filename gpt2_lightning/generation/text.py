"""Text that is written while its tokens are chosen, and the strings that end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.decoder import Decoder, Finish, Token
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.stream import TextStream
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Piece:
    """What one token adds to a text."""

    row: int
    """Number of the text, as in `Token`."""
    text: str
    """Characters that became certain: whole, and no part of a stop string. Often empty, and longer later."""
    finished: Finish | None
    """Why this is the text's last piece, if it is."""
    token: Token
    """The token itself; it may be an end of text, or belong to a stop string, which are no part of the text."""


class StoppableText:
    """Text from tokens that arrive one by one, up to the first stop string.

    What could still become a stop string is held back until it cannot. The string that is complete first ends the text,
    whatever tokens it came in; of two that are complete with the same character, the longer.

    Args:
        tokenizer: whose tokens they are.
        stop: strings that end the text.

    Raises:
        UserError: if a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise UserError("a stop string is empty: it would end every text before it begins")
        self.stopped = False
        """Whether a stop string came; nothing is added after it."""
        self._stream, self._stop, self._held = TextStream(tokenizer), tuple(stop), ""

    def add(self, token: int) -> str:
        """The text that is certain after one more token."""
        return self._release(self._stream.add(token))

    def rest(self) -> str:
        """What is still held back when the tokens end."""
        released = self._release(self._stream.rest()) + self._held
        self._held = ""
        return released

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [(at + len(string), at) for string in self._stop if (at := self._held.find(string)) >= 0]
        if found:
            self.stopped = True
            kept = min(found)[1]
            released, self._held = self._held[:kept], ""
            return released
        certain = len(self._held) - self._longest_beginning()
        released, self._held = self._held[:certain], self._held[certain:]
        return released

    def _longest_beginning(self) -> int:
        """Characters at the end of what is held with which a stop string begins."""
        most = min(len(self._held), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(most, 0, -1) if any(s.startswith(self._held[-n:]) for s in self._stop)), 0)


def write(
    model: GPT2,
    tokenizer: Tokenizer,
    prompts: Sequence[Tensor],
    sampling: Sampling,
    samples: int = 1,
    stop: Sequence[str] = (),
    first_row: int = 0,
    on_slide: Callable[[], None] | None = None,
) -> Iterator[Piece]:
    """Continue prompts, and yield what every token adds to its text, as it is chosen; see `Decoder`.

    A text ends with the tokenizer's end of text, with the first stop string or after `max_new_tokens`. The pieces of
    one row, joined, are the answer, without the prompt.

    Raises:
        UserError: as `Decoder` and `StoppableText`.
    """
    decoder = Decoder(model, prompts, sampling, samples, tokenizer.end_of_text, first_row, on_slide)
    texts = [StoppableText(tokenizer, stop) for _ in range(len(prompts) * samples)]
    for step in decoder:
        for token in step:
            piece = piece_of(token, texts[token.row])
            if piece.finished == "stop_string":
                decoder.stop(token.row)
            yield piece


def piece_of(token: Token, text: StoppableText) -> Piece:
    """What a token adds to its text."""
    added = "" if token.finished == "end_of_text" else text.add(token.id)
    if token.finished:
        added += text.rest()
    return Piece(token.row, added, "stop_string" if text.stopped else token.finished, token)
