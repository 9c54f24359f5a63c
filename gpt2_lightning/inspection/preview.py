"""Preview of training rows: which tokens carry loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpt2_lightning.data.instruction.encoding import Example
from gpt2_lightning.inspection.token_labels import token_labels
from gpt2_lightning.tokenizers import Tokenizer

Kind = Literal["prompt", "learned", "end"]
"""A token without loss; a token with loss; the end-of-text token with loss."""


@dataclass(frozen=True)
class PreviewToken:
    """One token of a row."""

    label: str
    """Printable text of the token; see `token_label`."""
    kind: Kind
    begins: bool
    """Whether it is the first of an example. Attention does not cross this boundary."""


@dataclass(frozen=True)
class PreviewRow:
    """One row of a batch."""

    tokens: tuple[PreviewToken, ...]
    padding: int
    """Positions of padding after the last example, without loss."""

    @property
    def n_examples(self) -> int:
        return sum(token.begins for token in self.tokens)

    @property
    def n_targets(self) -> int:
        """Tokens that carry loss."""
        return sum(token.kind != "prompt" for token in self.tokens)


def preview(rows: Sequence[Sequence[Example]], tokenizer: Tokenizer, width: int | None = None) -> list[PreviewRow]:
    """Label the tokens of rows.

    Args:
        rows: the examples of each row.
        tokenizer: of the examples.
        width: positions in a row of a batch; None for the widest of the rows.
    """
    used = [sum(example.width for example in row) for row in rows]
    width = max(used, default=0) if width is None else width
    return [
        PreviewRow(tuple(token for example in row for token in _tokens(example, tokenizer)), width - filled)
        for row, filled in zip(rows, used, strict=True)
    ]


def _tokens(example: Example, tokenizer: Tokenizer) -> list[PreviewToken]:
    ids = example.ids.tolist()
    labeled = zip(ids, token_labels(ids, tokenizer), example.learned.tolist(), strict=True)
    return [
        PreviewToken(label, _kind(token, learned, tokenizer), begins=place == 0)
        for place, (token, label, learned) in enumerate(labeled)
    ]


def _kind(token: int, learned: bool, tokenizer: Tokenizer) -> Kind:
    if not learned:
        return "prompt"
    return "end" if token == tokenizer.end_of_text else "learned"
