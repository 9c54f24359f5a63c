"""Incremental decoding of tokens."""

from __future__ import annotations

import codecs

from gpt2_lightning.tokenizers import Tokenizer


class TextStream:
    """Decodes tokens one by one. Bytes are buffered until a character is complete, which may take several tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """Add a token; return the characters that it completes."""
        return self._decoder.decode(self.tokenizer.token_bytes(token))

    def rest(self) -> str:
        """Decode the buffered bytes after the last token."""
        return self._decoder.decode(b"", final=True)
