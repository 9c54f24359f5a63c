"""The model card says what is known, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import yaml

from gpt2_lightning.huggingface.card import Card
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

SETTINGS = {
    "name": "scifi-tiny",
    "run_dir": "/home/me/runs/scifi-tiny",
    "data": {"_target_": "corpus", "path": str(Path("/home/me/books/scifi.txt")), "val_fraction": 0.1},
    "optimizer": {"lr": 0.003, "betas": [0.9, 0.95], "clip": None},
    "batch_size": 12,
    "cache_dir": "/home/me/cache",
}


def test_the_card_of_a_run_has_its_settings_and_figures() -> None:
    card = Card("tiny", SETTINGS, {"validation loss, nats per token": "2.3456"})
    text = card.text(lively().to(torch.bfloat16), CharTokenizer("abcdefghijklmnopqrstuvw"))
    rows = dict(re.findall(r"^\| (\S.*) \| (.*) \|$", text, re.MULTILINE))
    assert (
        rows.items()
        >= {
            "parameters": "31,640",
            "layers": "2",
            "context, in tokens": "13",
            "vocabulary": "23 tokens",
            "tokenizer": "char",
            "dtype": "bfloat16",
            "data.path": "scifi.txt",
            "data.val_fraction": "0.1",
            "optimizer.lr": "0.003",
            "optimizer.betas": "[0.9, 0.95]",
            "batch_size": "12",
            "validation loss, nats per token": "2.3456",
        }.items()
    )
    assert "optimizer.clip" not in rows
    assert "/home/me" not in text


def test_the_header_is_yaml_that_the_hub_reads() -> None:
    header = Card("tiny", {}).text(lively(), None).split("---\n")[1]
    assert yaml.safe_load(header) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gpt2"],
    }


def test_nothing_is_said_where_nothing_is_known() -> None:
    text = Card("tiny", {}).text(lively(), None)
    assert text.count("None are known.") == 2
    assert "it reads and writes ids" in text


def test_signs_of_tables_in_settings_stay_text() -> None:
    text = Card("tiny", {"data": {"separator": "a|b\nc"}}).text(lively(), None)
    assert r"| data.separator | a\|b c |" in text


def test_a_classifier_is_told_with_its_classes_and_report() -> None:
    head = LabelHead(torch.zeros(2, 35), ["ham", "spam"], "single", 11)
    settings = SETTINGS | {"init_from": "/home/me/runs/base", "tokenizer": {"_target_": "gpt2"}}
    text = Card("spam", settings, {"validation accuracy": "0.9600"}, head, "### Test\n\n| accuracy | 0.95 |").text(
        lively(), CharTokenizer("abcdefghijklmnopqrstuvw")
    )
    assert yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "text-classification"
    for line in ("| classes | ham, spam |", "| answers with | one class |", "| init_from | base |", "### Test"):
        assert line in text
    assert text.index("| validation accuracy | 0.9600 |") < text.index("### Test") < text.index("## Use")
    assert "tokenizer._target_" not in text, "the model brought its own"
