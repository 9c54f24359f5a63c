"""A conversation with a model that was trained on instructions."""

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
    """Questions as the model's template has them. What was said is read again with each, as far as there is room.

    Args:
        template: that of the model's training.
        tokenizer: the model's.
        block_size: its context, in tokens.
        notice: called with what the user should know.
        system: a message before the first question, where the template has a place for one.

    Raises:
        UserError: if the template does not take `system`.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: Tokenizer,
        block_size: int,
        notice: Callable[[str], None],
        system: str | None = None,
    ) -> None:
        self.template, self.tokenizer, self.block_size = template, tokenizer, block_size
        self._notice, self._noticed = notice, False
        self._opening = [] if system is None else [Message("system", system)]
        template.render(self._opening)
        self.turns: list[Message] = []
        """What was said and is still read, the user's and the assistant's in turns."""

    def reset(self) -> None:
        """Forget what was said."""
        self.turns = []

    def add(self, question: str, answer: str) -> None:
        """Remember a question with its answer, if there is one."""
        if answer:
            self.turns += [Message("user", question), Message("assistant", answer)]

    def read(self, question: str, max_new_tokens: int) -> Tensor:
        """The ids (T,) of all that the model reads: the oldest turns go where they leave too little for an answer.

        Args:
            question: the user's.
            max_new_tokens: length of the answer; room is kept for it, up to half of the context.

        Raises:
            UserError: if the question is empty, has no room or has characters that the tokenizer lacks.
        """
        if not question.strip():
            raise UserError("prompt: the question is empty; give one, or let the model write without it by raw=true")
        wanted = min(max_new_tokens, self.block_size // 2)
        kept = self.turns if self.template.between is not None else []
        if len(kept) < len(self.turns):
            self._say_once(f"the template {self.template.name} is for single questions: each is answered by itself")
        while True:
            messages = [*self._opening, *kept, Message("user", question)]
            ids = encode(self.template.render(messages), self.tokenizer).ids
            if len(ids) + wanted <= self.block_size + 1 or not kept:  # the last token is written and not read
                break
            kept = kept[2:]
            self._say_once(f"the context of {self.block_size} tokens is full: the oldest turns are dropped from now on")
        if len(ids) > self.block_size:
            raise UserError(
                f"the question takes {len(ids)} tokens and the context holds {self.block_size}: ask a shorter one"
            )
        self.turns = kept
        return torch.from_numpy(ids)

    def _say_once(self, text: str) -> None:
        if not self._noticed:
            self._notice(text)
            self._noticed = True
