"""A conversation on the terminal with a model that was trained on instructions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator

import torch

from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.instruct_encoding import encode
from gpt2_lightning.data.tables.instructions import Message
from gpt2_lightning.data.templates import template_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.text import write
from gpt2_lightning.model import GPT2

RESET, QUIT = "/reset", "/quit"
HELP = f"{RESET} forgets what was said, {QUIT} ends, Ctrl-C stops an answer; // begins a question with /"


def templated(question: str, description: Description) -> tuple[str, tuple[str, ...]]:
    """A question as the model's template has it, and the strings that end its answer.

    Raises:
        UserError: if the model was not trained on instructions.
    """
    template = template_of(description.task)
    return template.prompt(question), template.stop


class Chat:
    """Answers in turns. What was said is read again for each answer, as far as the context has room for it.

    Args:
        model: in evaluation mode.
        description: of its checkpoint.
        sampling: the settings, without beams; each answer has a seed of its own.
        notice: called with what the user should know.
        system: a message before the first question, where the template has a place for one.

    Raises:
        UserError: if the model was not trained on instructions, or its template does not take `system`.
    """

    def __init__(
        self,
        model: GPT2,
        description: Description,
        sampling: Sampling,
        notice: Callable[[str], None],
        system: str | None = None,
    ) -> None:
        self.model, self.tokenizer, self.sampling = model, description.tokenizer, sampling
        self.template = template_of(description.task)
        self._notice, self._noticed = notice, False
        self._opening = [] if system is None else [Message("system", system)]
        self.template.render(self._opening)
        self.turns: list[Message] = []
        """What was said and is still read, the user's and the assistant's in turns."""
        self._answers = 0  # for a seed of its own each

    def reset(self) -> None:
        """Forget what was said."""
        self.turns = []

    def reply(self, question: str) -> Generator[str, None, None]:
        """Pieces of the answer, as it is written. Where it is stopped, what was said by then stays said.

        Raises:
            UserError: if the question alone leaves no room for an answer, or has characters that the tokenizer lacks;
                it is forgotten then.
        """
        prompt = self._prompt(Message("user", question))
        room = self.model.config.block_size - len(prompt) + 1  # the last token is written and not read
        settings = dataclasses.replace(self.sampling, max_new_tokens=min(self.sampling.max_new_tokens, room))
        answer = ""
        pieces = write(self.model, self.tokenizer, [prompt], settings, stop=self.template.stop, first_row=self._answers)
        self._answers += 1
        try:
            for piece in pieces:
                answer += piece.text
                yield piece.text
        finally:
            if answer:
                self.turns += [Message("user", question), Message("assistant", answer)]

    def _prompt(self, question: Message) -> torch.Tensor:
        """The ids of all that is read, after dropping the oldest turns that leave too little room for an answer."""
        block_size = self.model.config.block_size
        wanted = min(self.sampling.max_new_tokens, block_size // 2)
        kept = self.turns if self.template.between is not None else []
        if len(kept) < len(self.turns):
            self._say_once(f"the template {self.template.name} is for single questions: each is answered by itself")
        while True:
            ids = encode(self.template.render([*self._opening, *kept, question]), self.tokenizer).ids
            if len(ids) + wanted <= block_size + 1 or not kept:
                break
            kept = kept[2:]
            self._say_once(f"the context of {block_size} tokens is full: the oldest turns are dropped from now on")
        if len(ids) > block_size:
            raise UserError(
                f"the question takes {len(ids)} tokens and the context holds {block_size}: ask a shorter one"
            )
        self.turns = kept
        return torch.from_numpy(ids).to(self.model.wte.weight.device)

    def _say_once(self, text: str) -> None:
        if not self._noticed:
            self._notice(text)
            self._noticed = True


def converse(chat: Chat, questions: Iterable[str], show: Callable[[str], None], notice: Callable[[str], None]) -> None:
    """Answer lines until one says `/quit`, or they end.

    Args:
        chat: keeps what was said.
        questions: the lines; blank ones are passed over.
        show: called with each piece of an answer, and with a line feed after it.
        notice: called with what the user should know.
    """
    for line in questions:
        question = line.strip()
        if question == QUIT:
            return
        if question == RESET:
            chat.reset()
            notice("forgotten")
        elif question.startswith("/") and not question.startswith("//"):
            notice(f"{question.split()[0]} is no command: {HELP}")
        elif question:
            _answer(chat, question.removeprefix("/"), show, notice)


def _answer(chat: Chat, question: str, show: Callable[[str], None], notice: Callable[[str], None]) -> None:
    try:
        with contextlib.closing(chat.reply(question)) as pieces:
            for piece in pieces:
                show(piece)
    except UserError as error:
        notice(str(error))
    except KeyboardInterrupt:
        show(" …\n")
    else:
        show("\n")


def lines_of_terminal(prompt: str = "> ") -> Iterator[str]:
    """What the user types, line by line, until the end of input."""
    while True:
        try:
            yield input(prompt)
        except EOFError:
            return
