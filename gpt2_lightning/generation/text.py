"""Streaming of generated text, up to stop strings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.decoder import Decoder, Finish, Token
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.speculation.draft import Draft
from gpt2_lightning.generation.stream import TextStream
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Piece:
    """The text that one token adds."""

    row: int
    """Number of the text, as in `Token`."""
    text: str
    """Complete characters that are not part of a stop string; empty while that is undecided."""
    finished: Finish | None
    """Why the text ends with this piece, if it does."""
    token: Token
    """The token; that of an end of text or of a stop string is not part of the text."""


class StoppableText:
    """Decodes tokens one by one, up to the first stop string.

    A possible beginning of a stop string is buffered until it is decided. The text ends at the stop string that is
    complete first, whatever its tokens; of two that end at the same character, at the longer one.

    Args:
        tokenizer: tokenizer of the tokens.
        stop: strings that end the text.

    Raises:
        UserError: if a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise UserError("a stop string is empty: it would end every text before it begins")
        self.stopped = False
        """Whether a stop string is complete; further tokens are ignored."""
        self._stream, self._stop, self._held = TextStream(tokenizer), tuple(stop), ""

    def add(self, token: int) -> str:
        """Add a token; return the characters that are decided."""
        return self._release(self._stream.add(token))

    def rest(self) -> str:
        """Return the buffered characters after the last token."""
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
        """Length of the longest end of the buffer with which a stop string begins."""
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
    ends: Collection[int] | None = None,
    draft: Draft | None = None,
) -> Iterator[Piece]:
    """Generate text after prompts, and yield the piece of every token as it is chosen; see `Decoder`.

    A text ends at an id of `ends` (None: the tokenizer's end of text), at the first stop string or after
    `max_new_tokens`. The pieces of a row, joined, are its text without the prompt.

    Raises:
        UserError: as `Decoder` and `StoppableText`.
    """
    end_of_text = tokenizer.end_of_text if ends is None else ends
    decoder = Decoder(model, prompts, sampling, samples, end_of_text, first_row, on_slide, draft)
    texts = [StoppableText(tokenizer, stop) for _ in range(len(prompts) * samples)]
    for step in decoder:
        for token in step:
            piece = piece_of(token, texts[token.row])
            if piece.finished == "stop_string":
                decoder.stop(token.row)
            yield piece


def piece_of(token: Token, text: StoppableText) -> Piece:
    """The piece that a token adds to its text."""
    added = "" if token.finished == "end_of_text" else text.add(token.id)
    if token.finished:
        added += text.rest()
    return Piece(token.row, added, "stop_string" if text.stopped else token.finished, token)
