"""Which tokens carry loss: rows of training, token by token, before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpt2_lightning.data.instruction.encoding import Example
from gpt2_lightning.inspection.token_labels import token_labels
from gpt2_lightning.tokenizers import Tokenizer

Kind = Literal["prompt", "learned", "end"]
"""Read alone; predicted, and so in the loss; the end-of-text token, predicted as well."""


@dataclass(frozen=True)
class PreviewToken:
    """One token of a row."""

    label: str
    """Its text, with nothing invisible; see `token_label`."""
    kind: Kind
    begins: bool
    """Whether it is the first of an example. Nothing before it in the row is seen from here on."""


@dataclass(frozen=True)
class PreviewRow:
    """One row of a batch."""

    tokens: tuple[PreviewToken, ...]
    padding: int
    """Places after the last example; they hold no token and carry no loss."""

    @property
    def n_examples(self) -> int:
        return sum(token.begins for token in self.tokens)

    @property
    def n_targets(self) -> int:
        """Tokens that carry loss."""
        return sum(token.kind != "prompt" for token in self.tokens)


def preview(rows: Sequence[Sequence[Example]], tokenizer: Tokenizer, width: int | None = None) -> list[PreviewRow]:
    """Rows of examples as their tokens.

    Args:
        rows: the examples of each.
        tokenizer: whose ids they are.
        width: places in a row of a batch; None where rows are as wide as the widest of them.
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
