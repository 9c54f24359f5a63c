"""Text from tokens that arrive one by one."""

from __future__ import annotations

import codecs

from gpt2_lightning.tokenizers import Tokenizer


class TextStream:
    """Holds bytes back until a character is whole: one character may take several byte-level tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """The text that is certain after one more token; empty while a character is incomplete."""
        return self._decoder.decode(self.tokenizer.token_bytes(token))

    def rest(self) -> str:
        """What is still held back when the tokens end."""
        return self._decoder.decode(b"", final=True)
