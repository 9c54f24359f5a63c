"""Conversations with a model that was trained on instructions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpt2_lightning.data.instruction.encoding import encode
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables.instructions import Message
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer


class Chat:
    """Renders questions in the model's template, after the earlier turns of the conversation that fit the context.

    Args:
        template: that of the model's training.
        tokenizer: the model's.
        block_size: size of its context, in tokens.
        notify: called with notes for the user.
        system: a system message before the first question, for templates that have one.

    Raises:
        UserError: if the template has no system message.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: Tokenizer,
        block_size: int,
        notify: Callable[[str], None],
        system: str | None = None,
    ) -> None:
        self.template, self.tokenizer, self.block_size = template, tokenizer, block_size
        self._notify, self._notified = notify, False
        self._opening = [] if system is None else [Message("system", system)]
        template.render(self._opening)
        self.turns: list[Message] = []
        """Earlier turns that are still in the context, user and assistant alternating."""

    def reset(self) -> None:
        """Clear the conversation."""
        self.turns = []

    def add(self, question: str, answer: str) -> None:
        """Append a question and its answer, unless that is empty."""
        if answer:
            self.turns += [Message("user", question), Message("assistant", answer)]

    def encode(self, question: str, max_new_tokens: int) -> Tensor:
        """Encode a question with the conversation so far, from which the oldest turns are dropped to make room.

        Args:
            question: the user's.
            max_new_tokens: length of the answer, for which room is kept, up to half of the context.

        Returns:
            Token ids of shape (T,).

        Raises:
            UserError: if the question is empty, or has characters that the tokenizer rejects.
        """
        if not question.strip():
            raise UserError("prompt: the question is empty; give one, or generate without a question by raw=true")
        wanted = min(max_new_tokens, self.block_size // 2)
        kept = self.turns if self.template.between is not None else []
        if len(kept) < len(self.turns):
            self._notify_once(f"the template {self.template.name} is for single questions: each is answered by itself")
        while True:
            messages = [*self._opening, *kept, Message("user", question)]
            ids = encode(self.template.render(messages), self.tokenizer).ids
            if len(ids) + wanted <= self.block_size + 1 or not kept:  # the last token is generated and not read
                break
            kept = kept[2:]
            self._notify_once(
                f"the context of {self.block_size} tokens is full: the oldest turns are dropped from now on"
            )
        self.turns = kept
        return torch.from_numpy(ids)

    def _notify_once(self, note: str) -> None:
        if not self._notified:
            self._notify(note)
            self._notified = True
