"""Templates for instructions as transformers fills them, beside our own."""

from __future__ import annotations

import dataclasses
import json

import pytest
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables.instructions import Message
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.chat_template import as_jinja
from gpt2_lightning.huggingface.tokenizer_definitions import definition_of
from gpt2_lightning.tokenizers import CharTokenizer
from tests.data.shipped_templates import NAMES, shipped

END = "<|endoftext|>"
ODD = Template(
    name="odd",
    question="\\n {{ \"a\" }} {% if %} '{instruction}' {# €😀 #}\t{instruction}\r\n",
    between=' \n{{ "',
    system="{system}\\",
    answer_end='"}}',
)
SINGLE = [Message("user", "Which\n{instruction}? {{ 7 * 7 }} €😀")]
ANSWERED = [*SINGLE, Message("assistant", ' "That" \\n ')]
CHAT = [*ANSWERED, Message("user", "And?")]
WITH_SYSTEM = [Message("system", "Be {system} brief."), *CHAT]


def theirs(template: Template, messages: list[Message]) -> str:
    definition = definition_of(CharTokenizer("ab"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(definition)), eos_token=END)
    rows = [dataclasses.asdict(message) for message in messages]
    text = tokenizer.apply_chat_template(rows, chat_template=as_jinja(template.to_plain()), tokenize=False)
    assert isinstance(text, str)
    return text


def ours(template: Template, messages: list[Message]) -> str:
    return "".join(segment.text + (END if segment.ends_turn else "") for segment in template.render(messages))


TEMPLATES = [*map(shipped, NAMES), ODD]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_transformers_writes_what_we_write(template: Template) -> None:
    conversations = [
        SINGLE,
        ANSWERED,
        *([CHAT] if template.between else []),
        *([WITH_SYSTEM] if template.system else []),
    ]
    for messages in conversations:
        assert theirs(template, messages) == ours(template, messages)


@pytest.mark.parametrize("messages", [CHAT, WITH_SYSTEM], ids=["chat", "system"])
def test_transformers_refuses_what_we_refuse(messages: list[Message]) -> None:
    template = shipped("alpaca")
    with pytest.raises(UserError) as ours_says:
        ours(template, messages)
    with pytest.raises(TemplateError) as theirs_says:
        theirs(template, messages)
    assert str(theirs_says.value).removeprefix("the template of this model ") in str(ours_says.value)
