"""Printable labels of tokens."""

from __future__ import annotations

from collections.abc import Iterable

from gpt2_lightning.tokenizers import Tokenizer

_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "⇥"})
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def token_label(token: bytes) -> str:
    """Printable text for the bytes of a token.

    Spaces, line feeds and tabs become · ↵ ⇥. Other unprintable characters, and bytes that are not UTF-8, are escaped. A
    token without bytes is ∅.
    """
    text = token.decode(errors="backslashreplace").translate(_VISIBLE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "∅"


def token_labels(ids: Iterable[int], tokenizer: Tokenizer) -> list[str]:
    """Label each token independently."""
    return [token_label(tokenizer.token_bytes(i)) for i in ids]


def text_labels(ids: Iterable[int], tokenizer: Tokenizer) -> list[str]:
    """Label the tokens of a text as `token_label` does, with whole characters where they span tokens.

    Byte-level tokens may hold a part of a character. Its label is the character with the number of the part: é₁ é₂.
    """
    tokens = [tokenizer.token_bytes(i) for i in ids]
    owners = [owner for owner, token in enumerate(tokens) for _ in token]  # the token of each byte
    labels = [""] * len(tokens)
    start = 0
    for character in b"".join(tokens).decode(errors="surrogateescape"):
        content = character.encode(errors="surrogateescape")
        parts = list(dict.fromkeys(owners[start : start + len(content)]))
        start += len(content)
        for number, owner in enumerate(parts, start=1):
            labels[owner] += token_label(content) + (str(number).translate(_SUBSCRIPTS) if len(parts) > 1 else "")
    return [label or token_label(b"") for label in labels]
