"""Templates that render conversations as text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from gpt2_lightning.data.tables.instructions import Alpaca, Message
from gpt2_lightning.errors import UserError, did_you_mean
from gpt2_lightning.settings import FreeText, Settings, relation

KIND = "instruct"
"""Value of `kind` in `Description.task` of a model that was trained with a template."""
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Segment:
    """A part of a rendered conversation that is tokenized separately."""

    text: str
    learned: bool
    """Whether the text is part of an answer."""
    ends_turn: bool = False
    """Whether the segment ends an answer, so that an end-of-text token follows."""


@dataclass(frozen=True, kw_only=True)
class Template(Settings):
    """Format of the text around questions and answers. It consists of plain values, which checkpoints contain in full.

    Names in braces are fields. Markers such as `<|im_start|>` are encoded as ordinary text of several tokens, since a
    pre-trained model has no embeddings for new tokens.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    name: str
    """Name of the template, for messages."""
    question: Annotated[str, FreeText(nullable=True)]
    """Text before an answer, with `{instruction}`."""
    question_with_input: Annotated[str, FreeText(nullable=True)] | None = None
    """The same with `{instruction}` and `{input}`; null to append the input to the instruction after a blank line."""
    between: Annotated[str, FreeText(nullable=True)] | None = None
    """Text between an answer and the next question; null to support a single question only."""
    system: Annotated[str, FreeText(nullable=True)] | None = None
    """Text before the first question, with `{system}`, if there is a system message; null to reject system messages."""
    answer_end: Annotated[str, FreeText(nullable=True)] = ""
    """Text after each answer, before the end-of-text token. It is a target in training, and ends generation."""

    @relation
    def _question_has_its_fields(self) -> Iterator[str]:
        yield from _field_faults("question", self.question, "instruction")

    @relation
    def _question_with_input_has_its_fields(self) -> Iterator[str]:
        yield from _field_faults("question_with_input", self.question_with_input, "instruction", "input")

    @relation
    def _system_has_its_field(self) -> Iterator[str]:
        yield from _field_faults("system", self.system, "system")

    @relation
    def _between_has_no_field(self) -> Iterator[str]:
        yield from _field_faults("between", self.between)

    @relation
    def _answer_end_is_a_text(self) -> Iterator[str]:
        yield from _field_faults("answer_end", self.answer_end)
        if self.answer_end and not self.answer_end.strip():
            yield "answer_end: it is white space alone, which answers hold as well; name another text, or none"

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer, in addition to the end-of-text token."""
        return (self.answer_end,) if self.answer_end else ()

    def prompt(self, question: str) -> str:
        """Render a single question as a prompt for generation."""
        return _filled(self.question, instruction=question)

    def render(self, messages: Sequence[Message], alpaca: Alpaca | None = None) -> list[Segment]:
        """Render a conversation; if its last message is from the user, as a prompt for generation.

        Args:
            messages: an optional system message, then user and assistant messages in turns.
            alpaca: the fields of a single question, if it has them; see `Conversation`.

        Raises:
            UserError: if the template does not support a message.
        """
        before = ""
        segments: list[Segment] = []
        for message in messages:
            if message.role == "system":
                before = self._system(message.content)
            elif message.role == "user":
                if segments:
                    before = self._between()
                segments.append(Segment(before + self._question(message.content, alpaca), learned=False))
            else:
                segments += self._answer(message.content)
        return segments

    def to_plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def _system(self, content: str) -> str:
        if self.system is None:
            raise UserError(
                f"the template {self.name} has no place for a message of the system; use template=chatml, "
                "set template.system, or leave such messages out"
            )
        return _filled(self.system, system=content)

    def _between(self) -> str:
        if self.between is None:
            raise UserError(
                f"the template {self.name} is for one question with its answer, and this conversation has more; use "
                "template=chatml or phi3, or set template.between"
            )
        return self.between

    def _question(self, content: str, alpaca: Alpaca | None) -> str:
        if alpaca is not None and alpaca.input and self.question_with_input is not None:
            return _filled(self.question_with_input, instruction=alpaca.instruction, input=alpaca.input)
        return self.prompt(content)

    def _answer(self, content: str) -> list[Segment]:
        """Render an answer, with the closing text as its own segment, whose tokens do not depend on the answer."""
        if not self.answer_end:
            return [Segment(content, learned=True, ends_turn=True)]
        return [Segment(content, learned=True), Segment(self.answer_end, learned=True, ends_turn=True)]


def template_of(task: dict[str, Any]) -> Template:
    """Return the template that a model was trained with.

    Args:
        task: `Description.task` of its checkpoint, plain values; nothing in it is instantiated by name.

    Raises:
        UserError: if the model was not trained on instructions, or this version cannot read its template.
    """
    if task.get("kind") != KIND:
        found = task.get("kind", "language modelling")
        raise UserError(
            f"this model was trained for another task ({found}) than instructions, and has no template; fine-tune it "
            "with task=instruct"
        )
    try:
        return Template(**task["template"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the template of this checkpoint cannot be read by this version: {error}") from None


def _filled(text: str, **values: str) -> str:
    """Substitute all fields in one pass, since the values may contain braces."""
    return _FIELD.sub(lambda field: values[field[1]], text)


def _field_faults(name: str, text: str | None, *fields: str) -> list[str]:
    found = [] if text is None else _FIELD.findall(text)
    allowed = " and ".join(f"{{{field}}}" for field in fields) or "none"
    unknown = [
        f"{name}: there is no field {{{field}}}, it has {allowed}{did_you_mean(field, fields)}"
        for field in dict.fromkeys(found)
        if field not in fields
    ]
    missing = [f"{name}: {{{field}}} is missing" for field in fields if text is not None and field not in found]
    return unknown or missing
