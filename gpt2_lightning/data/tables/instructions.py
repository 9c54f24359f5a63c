"""Tables of instructions with answers, or of conversations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from gpt2_lightning.data.tables.records import BadRow, checked_text, text_of
from gpt2_lightning.data.tables.splits import Splits
from gpt2_lightning.data.tables.table import Table
from gpt2_lightning.errors import shortened

Role = Literal["system", "user", "assistant"]
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}
"""Roles by their names in OpenAI's and in ShareGPT's format."""
_TOOL_ROLES = ("tool", "function", "observation", "function_call", "function_response")
_CHAT_COLUMNS = ("messages", "conversations", "conversation")
"""Usual columns of messages."""


@dataclass(frozen=True)
class Message:
    """A message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Alpaca:
    """A row in the format of Alpaca: an instruction, its input (may be empty), and the answer."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class Conversation:
    """A row as a conversation, independent of the format of its table."""

    messages: tuple[Message, ...]
    """An optional system message, then user and assistant messages in turns; the last message is from the assistant."""
    alpaca: Alpaca | None
    """The same as Alpaca's three fields; None for a conversation of more than one question."""

    @classmethod
    def from_alpaca(cls, alpaca: Alpaca) -> Conversation:
        """Convert a row of Alpaca to messages; the input follows the instruction after a blank line."""
        question = f"{alpaca.instruction}\n\n{alpaca.input}" if alpaca.input else alpaca.instruction
        return cls((Message("user", question), Message("assistant", alpaca.output)), alpaca)

    @classmethod
    def from_messages(cls, messages: tuple[Message, ...]) -> Conversation:
        if len(messages) != 2:
            return cls(messages, None)
        question, answer = messages
        return cls(messages, Alpaca(question.content, "", answer.content))


@dataclass(frozen=True, kw_only=True)
class Instructions(Table):
    """Table of instructions and outputs, or of chat messages.

    The defaults are the columns of Alpaca. For rows of a prompt and a completion, use `instruction_column=prompt
    input_column=null output_column=completion`; for chats, lists of `{role, content}` or ShareGPT's `{from,
    value}`, `messages_column=messages` (or `conversations`).

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    instruction_column: str = "instruction"
    input_column: str | None = "input"
    """Column of the input, which may be missing or blank in a row; null if there is no such column."""
    output_column: str = "output"
    messages_column: str | None = None
    """Column of the messages of a chat; if set, the three other columns are ignored."""

    def read(self) -> Splits[Conversation]:
        """Read and validate all rows.

        Raises:
            UserError: if a table, a column or a part is missing or empty, or a row is bad.
        """
        return self._cut(self._parts())

    def rows(self) -> list[Conversation]:
        """Read and validate all rows of `train`, or of a single table, without a division into parts.

        Raises:
            UserError: if the table or a column is missing or empty, or a row is bad.
        """
        return self._parts()["train"]

    def _parts(self) -> dict[str, list[Conversation]]:
        if self.messages_column is not None:
            return self._load(self._chat, {"messages_column": self.messages_column}, {})
        required = {"instruction_column": self.instruction_column, "output_column": self.output_column}
        optional = {} if self.input_column is None else {"input_column": self.input_column}
        return self._load(self._instruction, required, optional)

    def _advice(self, columns: Collection[str]) -> str:
        chats = [column for column in _CHAT_COLUMNS if column in columns]
        return f"; for chats, set data.messages_column={chats[0]}" if chats and self.messages_column is None else ""

    def _instruction(self, values: dict[str, Any]) -> Conversation:
        instruction = text_of(values, self.instruction_column)
        given = "" if self.input_column is None else values.get(self.input_column)
        is_blank = given is None or (isinstance(given, str) and not given.strip())
        applied_to = "" if is_blank else checked_text(given, str(self.input_column))
        return Conversation.from_alpaca(Alpaca(instruction, applied_to, text_of(values, self.output_column)))

    def _chat(self, values: dict[str, Any]) -> Conversation:
        column = str(self.messages_column)
        given = values.get(column)
        if given is None:
            raise BadRow(f"{column} is missing")
        if not isinstance(given, list) or not given:
            raise BadRow(f"{column} is {shortened(given)}, and must be a list of messages")
        messages = tuple(_message(message, f"{column}[{place}]") for place, message in enumerate(given))
        _check_turns(messages, column)
        return Conversation.from_messages(messages)


def _message(given: Any, name: str) -> Message:
    """Read a message in OpenAI's format (`role`, `content`) or ShareGPT's (`from`, `value`)."""
    if not isinstance(given, dict):
        raise BadRow(f"{name} is {shortened(given)}, and must be an object with role and content, or from and value")
    role_key, content_key = ("from", "value") if "from" in given and "role" not in given else ("role", "content")
    role = given.get(role_key)
    known = _ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        tools = "; turns of tools cannot be learned" if role in _TOOL_ROLES else ""
        raise BadRow(f"{name}.{role_key} is {shortened(role)}, and must be one of {', '.join(_ROLES)}{tools}")
    content = given.get(content_key)
    if content is None and given.get("tool_calls"):
        raise BadRow(f"{name} calls a tool and has no text; turns of tools cannot be learned")
    return Message(known, checked_text(_joined_parts(content, f"{name}.{content_key}"), f"{name}.{content_key}"))


def _joined_parts(content: Any, name: str) -> Any:
    """Join the text parts of a content that is a list of parts, as in OpenAI's format; return others unchanged."""
    if not isinstance(content, list):
        return content
    for place, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadRow(f"{name}[{place}] is {shortened(part)}, and must be a part of type text")
    return "".join(part["text"] for part in content)


def _check_turns(messages: tuple[Message, ...], column: str) -> None:
    first = 1 if messages[0].role == "system" else 0
    for place, message in enumerate(messages[first:], first):
        expected = "user" if (place - first) % 2 == 0 else "assistant"
        if message.role != expected:
            raise BadRow(f"{column}[{place}].role is '{message.role}', and '{expected}' is next")
    if messages[-1].role != "assistant":
        raise BadRow(f"{column} ends with a message of the {messages[-1].role}, and must end with the assistant's")
