"""The model card says what is known, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from gpt2_lightning.huggingface import folder
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.model_card import Card
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
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


def test_what_the_origin_knows_is_told() -> None:
    origin = {"program": "nanoGPT", "source": "/home/me/ckpt.pt", "steps": 2500, "best_val_loss": 1.75}
    text = Card("tiny", {"origin": origin}).text(lively(), None)
    _, settings, figures = text.split("\n## ")[1:4]
    assert "| origin.source | ckpt.pt |" in settings
    assert settings.count("\n| origin.") == 2
    assert "| optimizer steps in nanoGPT | 2,500 |" in figures
    assert "| best validation loss in nanoGPT, nats per token | 1.7500 |" in figures


def test_figures_of_weights_that_were_rounded_since_are_told_as_such() -> None:
    card = Card("tiny", {}, {"validation loss": "2.3"}, measured_in="float32")
    told = "All of this was measured in float32, before the weights were rounded to bfloat16."
    assert told in card.text(lively().to(torch.bfloat16), None)
    assert "measured in" not in card.text(lively(), None)
    assert "measured in" not in Card("tiny", {}, measured_in="float32").text(lively().to(torch.bfloat16), None)


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


@pytest.mark.parametrize(
    ("tokenizer", "prompt"),
    [
        (CharTokenizer("\nThe ship"), "The"),
        (CharTokenizer("\n .jkl"), "j"),
        (CharTokenizer("\n .jkl", unknown="skip"), "j"),
        (BPETokenizer([(84, 104), (256, 101)]), "The"),
    ],
    ids=["letters", "without The", "skipping The", "bpe"],
)
def test_the_cards_own_lines_write_a_text_that_fits_into_the_context(
    tokenizer: Tokenizer,
    prompt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = lively(GPT2Config(vocab_size=tokenizer.vocab_size, block_size=13, n_layer=2, n_head=5, n_embd=35))
    monkeypatch.chdir(tmp_path)
    card = Card("tiny", {}).text(model, tokenizer)
    folder.write(model, tokenizer, Path("tiny"), card, max_shard_bytes=10**9)
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(lines, {})
    written = capsys.readouterr().out
    assert written.startswith(prompt)
    assert len(written) > len(prompt) + 1
