"""What conversations look like in each template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.instruction.templates import Segment, Template, template_of
from gpt2_lightning.data.tables import Alpaca, Conversation, Message
from gpt2_lightning.errors import UserError
from tests.data.shipped_templates import NAMES, shipped

OPENING = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request."
PLAIN = Conversation.from_alpaca(Alpaca("Add 2 and 3.", "", "5"))
WITH_INPUT = Conversation.from_alpaca(Alpaca("Add.", "2, 3", "5"))
TURNS = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
SYSTEM = Message("system", "Be brief.")


def text(template: Template, conversation: Conversation) -> str:
    return "".join(segment.text for segment in template.render(conversation.messages, conversation.alpaca))


def test_four_templates_are_shipped_under_their_names() -> None:
    assert NAMES == ["alpaca", "alpaca_single", "chatml", "phi3"]
    assert [shipped(name).name for name in NAMES] == NAMES


EXPECTED = {
    ("alpaca", PLAIN): f"{OPENING}. {REQUEST}\n\n### Instruction:\nAdd 2 and 3.\n\n### Response:|5|",
    ("alpaca", WITH_INPUT): (
        f"{OPENING}, paired with an input that provides further context. {REQUEST}\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:|5|"
    ),
    ("alpaca_single", PLAIN): f"{OPENING}. {REQUEST}\n\n### Instruction:\nAdd 2 and 3.\n\n### Response:\n|5|",
    ("alpaca_single", WITH_INPUT): (
        f"{OPENING}. {REQUEST}\n\n### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:\n|5|"
    ),
    ("phi3", PLAIN): "<|user|>\nAdd 2 and 3.\n<|assistant|>:\n|5|",
    ("phi3", WITH_INPUT): "<|user|>\nAdd.\n2, 3\n<|assistant|>:\n|5|",
    ("chatml", PLAIN): "<|im_start|>user\nAdd 2 and 3.<|im_end|>\n<|im_start|>assistant\n|5<|im_end|>|",
    ("chatml", WITH_INPUT): "<|im_start|>user\nAdd.\n\n2, 3<|im_end|>\n<|im_start|>assistant\n|5<|im_end|>|",
}
"""With a bar where what is learned begins and ends."""


@pytest.mark.parametrize(("name", "conversation"), EXPECTED)
def test_a_question_with_its_answer(name: str, conversation: Conversation) -> None:
    prompt, answer, _ = EXPECTED[name, conversation].replace("<|", "\0").replace("|>", "\1").split("|")
    segments = shipped(name).render(conversation.messages, conversation.alpaca)
    learned = "".join(segment.text for segment in segments if segment.learned)
    assert segments[0] == Segment(prompt.replace("\0", "<|").replace("\1", "|>"), learned=False)
    assert learned == answer.replace("\0", "<|").replace("\1", "|>")
    assert [segment.ends_turn for segment in segments] == [False] * (len(segments) - 1) + [True]


def test_chats_go_on_after_the_end_of_a_turn() -> None:
    opened, closed = "<|im_start|>", "<|im_end|>"
    expected = (
        f"{opened}system\nBe brief.{closed}\n{opened}user\na{closed}\n{opened}assistant\nb{closed}"
        f"\n{opened}user\nc{closed}\n{opened}assistant\nd{closed}"
    )
    segments = shipped("chatml").render((SYSTEM, *TURNS))
    assert "".join(segment.text for segment in segments) == expected
    assert [segment.ends_turn for segment in segments] == [False, False, True, False, False, True]
    assert "".join(segment.text for segment in segments if segment.learned) == f"b{closed}d{closed}"
    assert "".join(segment.text for segment in shipped("phi3").render(TURNS)) == (
        "<|user|>\na\n<|assistant|>:\nb\n<|user|>\nc\n<|assistant|>:\nd"
    )


def test_the_closing_text_is_a_segment_of_its_own_and_ends_generation() -> None:
    assert [s.text for s in shipped("chatml").render(PLAIN.messages)][1:] == ["5", "<|im_end|>"]
    assert shipped("chatml").stop == ("<|im_end|>",)
    assert shipped("alpaca").stop == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_what_comes_before_the_answer(name: str) -> None:
    template = shipped(name)
    whole = template.render(PLAIN.messages, PLAIN.alpaca)
    assert [Segment(template.prompt("Add 2 and 3."), learned=False)] == whole[:1] == template.render(PLAIN.messages[:1])


@pytest.mark.parametrize("name", NAMES)
def test_braces_of_the_user_are_text(name: str) -> None:
    nasty = Conversation.from_alpaca(Alpaca("{input} {} {0} \\1", "{instruction} {system}", "{output}"))
    rendered = text(shipped(name), nasty)
    assert "{input} {} {0} \\1" in rendered
    assert rendered.count("{instruction} {system}") == 1
    assert "{output}" in rendered


@pytest.mark.parametrize("name", ["alpaca", "alpaca_single"])
def test_templates_of_one_question_refuse_chats(name: str) -> None:
    with pytest.raises(UserError, match=rf"the template {name} is for one question .* template=chatml or phi3"):
        shipped(name).render(TURNS)


@pytest.mark.parametrize("name", ["alpaca", "alpaca_single", "phi3"])
def test_templates_without_a_place_for_the_system_refuse_it(name: str) -> None:
    with pytest.raises(UserError, match=rf"the template {name} has no place for a message of the system"):
        shipped(name).render((SYSTEM, *TURNS[:2]))


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"question": "{instuction}"}, "question: there is no field {instuction}, it has {instruction}; did you mean"),
    ({"question": "?"}, "question: {instruction} is missing"),
    ({"question_with_input": "{instruction}"}, "question_with_input: {input} is missing"),
    ({"question_with_input": "{instruction} {input} {x}"}, "no field {x}, it has {instruction} and {input}"),
    ({"system": "Be brief."}, "system: {system} is missing"),
    ({"between": "{instruction}"}, "between: there is no field {instruction}, it has none"),
    ({"answer_end": "\n"}, "answer_end: it is white space alone"),
]


@pytest.mark.parametrize(("settings", "fault"), FAULTS)
def test_a_field_that_is_not_there_is_told(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is compared to the letter below
        Template(**{"name": "own", "question": "{instruction}", **settings})
    assert fault in str(error.value)


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"^question: .*\nsystem: .*\nanswer_end: .*$"):
        Template(name="own", question="", system="", answer_end=" ")


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_gives_the_template_back(name: str) -> None:
    template = shipped(name)
    plain = json.loads(json.dumps({"kind": "instruct", "template": template.to_plain(), "mask_prompt": True}))
    assert template_of(plain) == template


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({}, r"trained for another task \(language modelling\) than instructions"),
        ({"kind": "classify"}, r"trained for another task \(classify\)"),
        ({"kind": "instruct"}, "cannot be read by this version: 'template'"),
        ({"kind": "instruct", "template": {"name": "own", "question": "?"}}, "question: {instruction} is missing"),
        ({"kind": "instruct", "template": {**shipped("phi3").to_plain(), "tools": ""}}, "unexpected keyword .*'tools'"),
        ({"kind": "instruct", "template": {"name": "own", "question": 5}}, "cannot be read by this version"),
    ],
)
def test_a_checkpoint_without_a_template_is_told(task: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        template_of(task)


def test_the_first_row_of_the_book_is_written_as_in_the_book(shared_data: Path) -> None:
    rows = json.loads((shared_data / "instructions" / "instruction-data.json").read_text(encoding="utf-8"))
    assert text(shipped("alpaca_single"), Conversation.from_alpaca(Alpaca(**rows[0]))) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Evaluate the following phrase by transforming it into the spelling given.\n"
        "\n"
        "### Input:\n"
        "freind --> friend\n"
        "\n"
        "### Response:\n"
        'The spelling of the given phrase "freind" is incorrect, the correct spelling is "friend".'
    )
