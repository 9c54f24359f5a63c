"""Encoding of conversations as token ids with a loss mask."""

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
    """A conversation of n tokens. The last token is a target, but not an input."""

    ids: NDArray[np.int64]
    """Token ids, (n,), n >= 1."""
    learned: NDArray[np.bool_]
    """Loss mask, (n,): whether a token is a target; always False for the first one."""

    @property
    def width(self) -> int:
        """Number of inputs, n - 1."""
        return len(self.ids) - 1

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return int(self.learned.sum())


@dataclass(frozen=True)
class EncodedRows:
    """The examples of one part in order."""

    examples: list[Example]
    truncated: int
    """Number of conversations truncated to the context, including those without their beginning."""
    without_beginning: int
    """Number of conversations truncated at their beginning, since the prompt alone fills the context."""

    @property
    def n_targets(self) -> int:
        """Tokens to be predicted."""
        return sum(example.n_targets for example in self.examples)


def encode(segments: Sequence[Segment], tokenizer: Tokenizer, mask_prompt: bool = True) -> Example:
    """Encode a conversation, each segment separately.

    A prompt thus has the same ids in training, where an answer follows, as in generation, where none follows.

    Args:
        segments: one or more segments; see `Template.render`.
        tokenizer: tokenizer with an end-of-text token.
        mask_prompt: whether only the answers and their end-of-text tokens are targets, instead of all tokens.

    Raises:
        UserError: if the tokenizer has no end-of-text token, or a character is not in its vocabulary.
    """
    end = require_end_of_text(tokenizer)
    ids: list[int] = []
    learned: list[bool] = []
    for segment in segments:
        added = tokenizer.encode(segment.text).tolist() + ([end] if segment.ends_turn else [])
        ids += added
        learned += [segment.learned or not mask_prompt] * len(added)
    learned[:1] = [False]  # no context precedes the first token
    return Example(np.array(ids, dtype=np.int64), np.array(learned, dtype=np.bool_))


def encode_rows(
    rows: Sequence[Conversation],
    part: str,
    template: Template,
    tokenizer: Tokenizer,
    block_size: int,
    mask_prompt: bool = True,
) -> EncodedRows:
    """Encode the conversations of a part.

    Args:
        rows: conversations.
        part: name of the part, for messages.
        template: template that renders the conversations.
        tokenizer: see `encode`.
        block_size: context length. A conversation is truncated to `block_size` inputs, i.e. block_size + 1 tokens: at
            its end; or at its beginning as well if it would lose its first target, which then has half of the context
            before it, or more.
        mask_prompt: see `encode`.

    Raises:
        UserError: with its number, if the template or the tokenizer cannot express a conversation.
    """
    require_end_of_text(tokenizer)
    examples, truncated, without_beginning = [], 0, 0
    for number, row in enumerate(rows, 1):
        try:
            example = encode(template.render(row.messages, row.alpaca), tokenizer, mask_prompt)
        except UserError as error:
            raise UserError(f"data.path: row {number} of the {part} part: {error}") from None
        if example.width > block_size:
            truncated += 1
            start = _window_start(example, block_size)
            without_beginning += start > 0
            window = slice(start, start + block_size + 1)
            example = Example(example.ids[window], example.learned[window])
        examples.append(example)
    return EncodedRows(examples, truncated, without_beginning)


def _window_start(example: Example, block_size: int) -> int:
    """Return the first of the block_size + 1 tokens of a longer example that are kept."""
    first_target = int(example.learned.argmax())
    if first_target <= block_size:
        return 0
    return min(first_target - (block_size + 1) // 2, example.width - block_size)


def require_end_of_text(tokenizer: Tokenizer) -> int:
    """Return the id of the end-of-text token.

    Raises:
        UserError: if the tokenizer has none.
    """
    if tokenizer.end_of_text is None:
        raise UserError(
            f"the model's tokenizer ({tokenizer.kind}) has no end-of-text token, so that answers could not learn to "
            "end; start from a model trained with tokenizer=gpt2 or bpe, or with tokenizer=char on several documents"
        )
    return tokenizer.end_of_text
