"""Tokens as short visible texts."""

from __future__ import annotations

from collections.abc import Iterable

from gpt2_lightning.tokenizers import Tokenizer

_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "⇥"})


def token_label(token: bytes) -> str:
    """A token's bytes as text in which nothing is invisible.

    Spaces, line feeds and tabs become · ↵ ⇥. Other characters without a shape, and bytes that are no UTF-8, are
    escaped. No bytes at all are ∅.
    """
    text = token.decode(errors="backslashreplace").translate(_VISIBLE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "∅"


def token_labels(ids: Iterable[int], tokenizer: Tokenizer) -> list[str]:
    """The label of each token."""
    return [token_label(tokenizer.token_bytes(i)) for i in ids]
