"""Conversations as ids, with the mask of those that carry loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.data.instruction.templates import Segment, Template
from gpt2_lightning.data.tables.instructions import Conversation
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation of n tokens. The last one is a target only."""

    ids: NDArray[np.int64]
    """(n,), n >= 1."""
    learned: NDArray[np.bool_]
    """(n,): whether a token is to be predicted; the first one cannot be."""

    @property
    def width(self) -> int:
        """Places in a row of a batch: n - 1."""
        return len(self.ids) - 1

    @property
    def n_targets(self) -> int:
        """Tokens to be predicted."""
        return int(self.learned.sum())


@dataclass(frozen=True)
class EncodedRows:
    """The conversations of one part, in their order, without those that have nothing to learn."""

    examples: list[Example]
    truncated: int
    """Conversations that were cut to the context; those that are dropped are counted as well."""
    dropped: int
    """Conversations of which nothing is left to learn after the cut."""

    @property
    def n_targets(self) -> int:
        """Tokens to be predicted."""
        return sum(example.n_targets for example in self.examples)


def encode(segments: Sequence[Segment], tokenizer: Tokenizer, mask_prompt: bool = True) -> Example:
    """The ids of a conversation, each segment tokenized by itself.

    So the ids of a prompt are the same in training, where its answer follows, and in generation, where it does not.

    Args:
        segments: at least one; see `Template.render`.
        tokenizer: must have an end-of-text token.
        mask_prompt: whether the answers alone are learned, each with its end, or everything.

    Raises:
        UserError: if the tokenizer has no end-of-text token, or lacks a character.
    """
    end = require_end_of_text(tokenizer)
    ids: list[int] = []
    learned: list[bool] = []
    for segment in segments:
        added = tokenizer.encode(segment.text).tolist() + ([end] if segment.ends_turn else [])
        ids += added
        learned += [segment.learned or not mask_prompt] * len(added)
    learned[:1] = [False]  # nothing comes before the first token that could predict it
    return Example(np.array(ids, dtype=np.int64), np.array(learned, dtype=np.bool_))


def encode_rows(
    rows: Sequence[Conversation],
    part: str,
    template: Template,
    tokenizer: Tokenizer,
    block_size: int,
    mask_prompt: bool = True,
) -> EncodedRows:
    """The examples of a part.

    Args:
        rows: the conversations.
        part: its name, for messages.
        template: writes them down.
        tokenizer: see `encode`.
        block_size: the context: at most so many tokens are read, and one more is predicted. The rest is cut off.
        mask_prompt: see `encode`.

    Raises:
        UserError: if a conversation does not fit the template or the tokenizer, with its number; or if nothing is left
            to learn.
    """
    require_end_of_text(tokenizer)
    examples, truncated = [], 0
    for number, row in enumerate(rows, 1):
        try:
            example = encode(template.render(row.messages, row.alpaca), tokenizer, mask_prompt)
        except UserError as error:
            raise UserError(f"data.path: row {number} of the {part} part: {error}") from None
        if example.width > block_size:
            truncated += 1
            example = Example(example.ids[: block_size + 1], example.learned[: block_size + 1])
        if example.n_targets:
            examples.append(example)
    if rows and not examples:
        raise UserError(
            f"data.path: nothing is left to learn in the {part} part: in each of its {len(rows)} rows the prompt alone "
            f"fills the context, model.block_size={block_size}; use a model with a larger context, a shorter template, "
            "or shorter rows"
        )
    return EncodedRows(examples, truncated, len(rows) - len(examples))


def require_end_of_text(tokenizer: Tokenizer) -> int:
    """The id that ends an answer.

    Raises:
        UserError: if there is none.
    """
    if tokenizer.end_of_text is None:
        raise UserError(
            f"the model's tokenizer ({tokenizer.kind}) has no end-of-text token, so that answers could not learn to "
            "end; start from a model trained with tokenizer=gpt2 or bpe, or with tokenizer=char on several documents"
        )
    return tokenizer.end_of_text
