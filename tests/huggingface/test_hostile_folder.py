"""Folders whose config.json or tokenizer.json is crafted are refused with a message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    model = lively()
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz"[: model.config.vocab_size])
    folder.write(model, tokenizer, tmp_path / "model", "card", 10**9)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_layer": "2"}, "n_layer: '2' is not an integer"),
        ({"n_embd": 35.0, "n_inner": None}, "n_embd: 35.0 is not an integer"),
        ({"n_layer": 10_000_000}, "10,000,000 blocks do not fit"),
        ({"layer_norm_epsilon": float("nan")}, "NaN is no JSON"),
        ({"instruction_template": {"name": 3, "question": 5}}, "question"),
    ],
    ids=["text", "float", "blocks", "NaN", "template"],
)
def test_crafted_configuration_is_refused(place: Path, fields: dict[str, object], message: str) -> None:
    file = place / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(UserError, match=message):
        _read(place)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_nested_too_deeply_is_refused(place: Path, name: str) -> None:
    (place / name).write_text(DEEP)
    with pytest.raises(UserError, match="nested too deeply"):
        _read(place)


def test_mingpts_json_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(DEEP)
    with pytest.raises(UserError, match="nested too deeply"):
        load_pretrained(str(tmp_path / "model.json"))


def _read(place: Path) -> None:
    found = load_pretrained(str(place))
    if found.task:
        from gpt2_lightning.data.instruction.templates import template_of

        template_of(found.task)
