"""Text from tokens that arrive one by one."""

from __future__ import annotations

from gpt2_lightning.tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"


class TextStream:
    """Holds tokens back until they end at the end of a character: one character may take several byte-level tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that is certain after one more token; empty while a character is incomplete."""
        self._held.append(token)
        text = self.tokenizer.decode(self._held)
        if text.endswith(_REPLACEMENT) and len(self._held) < 4:
            return ""
        self._held.clear()
        return text

    def rest(self) -> str:
        """What is still held back when the tokens end."""
        text = self.tokenizer.decode(self._held)
        self._held.clear()
        return text
