"""Alpaca rows, prompts with completions, and chats become one kind of row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.tables import Alpaca, Conversation, Instructions, Message
from gpt2_lightning.errors import UserError


def read_one(folder: Path, row: dict[str, Any], **settings: Any) -> Conversation:
    """The one row, in a table that has it many times."""
    file = folder / "rows.json"
    file.write_text(json.dumps([row] * 10), encoding="utf-8")
    splits = Instructions(path=str(file), **settings).read()
    rows = splits.train + splits.val + splits.test
    assert len(rows) == 10
    assert set(rows) == {rows[0]}
    return rows[0]


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_an_alpaca_row_keeps_its_fields_and_becomes_messages(tmp_path: Path) -> None:
    row = read_one(tmp_path, {"instruction": "Add.", "input": "2, 3", "output": "5"})
    assert row.alpaca == Alpaca("Add.", "2, 3", "5")
    assert row.messages == (Message("user", "Add.\n\n2, 3"), Message("assistant", "5"))


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_an_input_may_be_blank(tmp_path: Path, blank: str | None) -> None:
    row = read_one(tmp_path, {"instruction": "Say hi.", "input": blank, "output": "Hi."})
    assert row.alpaca == Alpaca("Say hi.", "", "Hi.")
    assert row.messages[0].content == "Say hi."


def test_an_input_may_be_missing_in_some_rows_but_not_in_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    rows = [{"instruction": "i", "output": "o"}] * 9
    file.write_text(json.dumps([*rows, {"instruction": "i", "input": "x", "output": "o"}]), encoding="utf-8")
    splits = Instructions(path=str(file)).read()
    found = [row.alpaca for row in splits.train + splits.val + splits.test]
    assert sorted(alpaca.input for alpaca in found if alpaca) == [""] * 9 + ["x"]
    file.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"data.input_column: .*'input'.* 'instruction', 'output'"):
        Instructions(path=str(file)).read()


def test_a_prompt_and_its_completion_are_an_instruction_without_input(tmp_path: Path) -> None:
    settings = {"instruction_column": "prompt", "input_column": None, "output_column": "completion"}
    row = read_one(tmp_path, {"prompt": "Once", "completion": " upon", "input": "not read"}, **settings)
    assert row.alpaca == Alpaca("Once", "", " upon")


def test_a_chat_of_one_question_is_an_instruction_as_well(tmp_path: Path) -> None:
    row = read_one(tmp_path, chat(("user", "Add 2, 3"), ("assistant", "5")), messages_column="messages")
    assert row == Conversation((Message("user", "Add 2, 3"), Message("assistant", "5")), Alpaca("Add 2, 3", "", "5"))


def test_a_longer_chat_keeps_every_turn(tmp_path: Path) -> None:
    turns = (("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    row = read_one(tmp_path, {"id": 1, **chat(*turns)}, messages_column="messages")
    assert [(message.role, message.content) for message in row.messages] == list(turns)
    assert row.alpaca is None


def test_a_chat_with_a_system_message_is_no_bare_instruction(tmp_path: Path) -> None:
    turns = (("system", "Be brief."), ("user", "a"), ("assistant", "b"))
    assert read_one(tmp_path, chat(*turns), messages_column="messages").alpaca is None


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"input": "", "output": "o"}, "instruction is missing"),
    ({"instruction": "i", "input": "", "output": " "}, "output is empty"),
    ({"instruction": "i", "input": "", "output": 5}, "output is 5 (int), and must be text"),
    ({"instruction": "i", "input": ["x"], "output": "o"}, "input is ['x'] (list), and must be text"),
]
BAD_CHATS: list[tuple[Any, str]] = [
    (None, "messages is missing"),
    ([], "messages is [], and must be a list of messages"),
    ("hello", "messages is 'hello', and must be a list of messages"),
    (["hello"], "messages[0] is 'hello', and must be an object with role and content"),
    ([{"role": "robot", "content": "a"}], "messages[0].role is 'robot', and must be one of system, user, assistant"),
    ([{"role": "tool", "content": "a"}], "messages[0].role is 'tool', and must be one of"),
    ([{"role": ["user"], "content": "a"}], "messages[0].role is ['user'], and must be one of"),
    ([{"from": "robot", "value": "a"}], "messages[0].from is 'robot', and must be one of"),
    ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "messages[0] calls a tool and has no text"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0] is {'type': 'image_url'}"),
    ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages[0].content[0] is {'type': 'text'"),
    ([{"role": "user", "content": []}], "messages[0].content is empty"),
    ([{"content": "a"}], "messages[0].role is None"),
    (chat(("user", "a"), ("assistant", " "))["messages"], "messages[1].content is empty"),
    ([{"role": "user", "content": None}], "messages[0].content is None (NoneType), and must be text"),
    (chat(("assistant", "a"))["messages"], "messages[0].role is 'assistant', and 'user' is next"),
    (chat(("user", "a"), ("user", "b"))["messages"], "messages[1].role is 'user', and 'assistant' is next"),
    (chat(("user", "a"), ("system", "b"))["messages"], "messages[1].role is 'system', and 'assistant' is next"),
    (chat(("system", "a"), ("system", "b"))["messages"], "messages[1].role is 'system', and 'user' is next"),
    (chat(("user", "a"))["messages"], "messages ends with a message of the user, and must end with the assistant's"),
    (chat(("system", "a"))["messages"], "messages ends with a message of the system"),
]


def reason_for(folder: Path, good: dict[str, Any], bad: dict[str, Any], **settings: Any) -> str:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, [good, bad])), encoding="utf-8")
    with pytest.raises(UserError) as error:
        Instructions(path=str(folder / "rows.jsonl"), **settings).read()
    return str(error.value).rpartition("rows.jsonl, line 2: ")[2]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_instruction_is_told(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {"instruction": "i", "input": "", "output": "o"}
    assert reason_for(tmp_path, good, row).startswith(reason)


@pytest.mark.parametrize(("messages", "reason"), BAD_CHATS)
def test_a_bad_chat_is_told(tmp_path: Path, messages: Any, reason: str) -> None:
    good = chat(("user", "a"), ("assistant", "b"))
    assert reason_for(tmp_path, good, {"messages": messages}, messages_column="messages").startswith(reason)


def test_an_unknown_column_of_chats_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.messages_column: .*'message'.* did you mean messages\?"):
        read_one(tmp_path, chat(("user", "a"), ("assistant", "b")), messages_column="message")


def test_the_instructions_of_the_book_have_their_published_counts(shared_data: Path) -> None:
    path = shared_data / "instructions" / "instruction-data.json"
    splits = Instructions(path=str(path), val=0.05, test=0.1).read()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (935, 55, 110)
    alpaca = [row.alpaca for row in splits.train + splits.val + splits.test]
    expected = [Alpaca(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    assert set(alpaca) == set(expected)


def test_chats_of_sharegpt_are_those_of_openai(tmp_path: Path) -> None:
    turns = (("system", "Be brief."), ("human", "a"), ("gpt", "b"), ("user", "c"), ("assistant", "d"))
    row = {"conversations": [{"from": role, "value": content} for role, content in turns]}
    names = {"human": "user", "gpt": "assistant"}
    theirs = chat(*((names.get(role, role), content) for role, content in turns))
    assert read_one(tmp_path, row, messages_column="conversations") == read_one(
        tmp_path, theirs, messages_column="messages"
    )


def test_text_parts_of_a_content_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Add "}, {"type": "text", "text": "2, 3"}]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "5"}]}
    assert read_one(tmp_path, row, messages_column="messages").messages[0] == Message("user", "Add 2, 3")


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_table_of_chats_names_the_setting_for_their_column(tmp_path: Path, column: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{column: []}] * 10), encoding="utf-8")
    with pytest.raises(UserError, match=rf"no column 'instruction'.* for chats, set data\.messages_column={column}"):
        Instructions(path=str(file)).read()


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, False), (3, True)])
def test_up_to_one_bad_row_in_a_hundred_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: int, stops: bool
) -> None:
    good = {"instruction": "i", "input": "", "output": "o"}
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([good] * (200 - bad) + [{**good, "output": ""}] * bad), encoding="utf-8")
    table = Instructions(path=str(file))
    if stops:
        with pytest.raises(UserError, match="3 bad rows"):
            table.read()
        table = replace(table, bad_rows="skip")
    splits = table.read()
    assert len(splits.train + splits.val + splits.test) == 200 - bad
    assert f"{bad} bad row" in caplog.text
    with pytest.raises(UserError, match=f"{bad} bad row"):
        replace(table, bad_rows="error").read()
