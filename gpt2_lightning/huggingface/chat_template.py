"""Instruction templates in Hugging Face folders.

`apply_chat_template` of transformers renders `chat_template.jinja`. This program reads the template from a field of
`config.json`, which transformers preserves when it saves the model again.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.weight_files import read_json

FILE = "chat_template.jinja"
FIELD = "instruction_template"
"""Field of `config.json` with the template."""
_CONTENT = "message['content']"


def write(template: Mapping[str, Any], folder: Path) -> None:
    """Add a template to a folder.

    Args:
        template: plain values of a `data.instruction.templates.Template`.
        folder: folder with a `config.json`.

    Raises:
        UserError: if the folder cannot be written.
    """
    config = folder / "config.json"
    try:
        (folder / FILE).write_text(as_jinja(template), encoding="utf-8", newline="\n")
        config.write_text(json.dumps(read_json(config) | {FIELD: dict(template)}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; free or change the folder") from None


def read(folder: Path) -> dict[str, Any] | None:
    """Return the plain values of a folder's template; None if it has none."""
    template = read_json(folder / "config.json").get(FIELD)
    return template if isinstance(template, dict) else None


def transformers_text(folder: Path, messages: list[dict[str, str]]) -> str | None:
    """Render a conversation with transformers; None if transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert isinstance(text, str)
    return text


def as_jinja(template: Mapping[str, Any]) -> str:
    """Convert a template to Jinja, on one line, so that no white space is added.

    A user message includes the opening of the answer, with or without `add_generation_prompt`.
    """
    place, refused = "has no place for a message of the system", "is for one question with its answer"
    system = _refusal(place) if template["system"] is None else _filled(template["system"], "system")
    between = _refusal(refused) if template["between"] is None else "{{ " + _literal(template["between"]) + " }}"
    return (
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}" + system + "{% elif message['role'] == 'user' %}"
        "{% if loop.previtem is defined and loop.previtem['role'] == 'assistant' %}" + between + "{% endif %}"
        + _filled(template["question"], "instruction")
        + "{% else %}{{ " + _CONTENT + " + " + _literal(template["answer_end"]) + " + eos_token }}{% endif %}"
        "{% endfor %}"
    )  # fmt: skip


def _filled(text: str, field: str) -> str:
    """Convert a text to a Jinja expression, with a field replaced by the message."""
    return "{{ " + f" + {_CONTENT} + ".join(map(_literal, text.split("{" + field + "}"))) + " }}"


def _refusal(why: str) -> str:
    return "{{ raise_exception(" + _literal(f"the template of this model {why}") + ") }}"


def _literal(text: str) -> str:
    """Convert a text to a Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)
