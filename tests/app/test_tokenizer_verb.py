"""The verb `tokenizer`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.tokenizers.saved import from_corpus as saved_tokenizer

BPE = ["tokenizer=bpe", "tokenizer.vocab_size=280", "data=text"]


@pytest.fixture
def run(run_verb: Callable[..., Any], small_text: Path, tmp_path: Path) -> Callable[..., Any]:
    return lambda *settings: run_verb(
        "tokenizer", f"data.path={small_text}", f"cache_dir={tmp_path / 'cache'}", *settings
    )


def test_merges_are_shown_one_by_one_up_to_the_tokens(run: Callable[..., Any]) -> None:
    outcome = run(*BPE, "text=the star", "steps=99")
    assert outcome.code == 0
    steps = [line for line in outcome.out.splitlines() if re.match(r"bytes|\s+\d+\. merge", line)]
    assert steps[0].split()[1] == "t|h|e|·|s|t|a|r"
    shown = [line.split()[-1] for line in steps]
    assert all(line.replace("|", "") == "the·star" for line in shown)
    counts = [line.count("|") for line in shown]
    assert counts == sorted(counts, reverse=True)
    ids = outcome.out.split(" tokens:\n")[1].splitlines()
    assert ids[0] == shown[-1]
    assert len(ids[1].split()) == counts[-1] + 1


def test_steps_limit_what_is_shown_and_say_so(run: Callable[..., Any]) -> None:
    outcome = run(*BPE, "text=the star keeper", "steps=2")
    assert outcome.out.count(". merge") == 2
    assert re.search(r"and (\d+) more merges; steps=\d+ shows all", outcome.out)


@pytest.mark.parametrize("kind", ["gpt2", "char"])
def test_other_tokenizers_are_shown_and_measured(run: Callable[..., Any], kind: str) -> None:
    outcome = run("data=text", f"tokenizer={kind}", "text=star sea")
    assert outcome.code == 0
    assert ("merge" in outcome.out) == (kind == "gpt2")
    assert "star" in outcome.out if kind == "gpt2" else "s|t|a|r|·|s|e|a" in outcome.out
    assert "bytes a token" in outcome.out


def test_the_output_is_a_tokenizer_for_training_and_for_hugging_face(run: Callable[..., Any], workplace: Path) -> None:
    transformers = pytest.importorskip("transformers")
    assert run(*BPE, "output=mine").code == 0
    ours = saved_tokenizer((), False, "mine")
    theirs = transformers.AutoTokenizer.from_pretrained("mine")
    text = "the old keeper goes\n over  the sea: é 12"
    assert theirs.encode(text) == ours.encode(text).tolist()
    again = run("data=text", "tokenizer=saved", "tokenizer.path=mine")
    assert again.code == 0
    assert "bpe: 280 tokens" in again.out


def test_what_is_there_is_not_written_over(run: Callable[..., Any], workplace: Path) -> None:
    (workplace / "mine").mkdir()
    (workplace / "mine" / "notes.txt").write_text("keep")
    outcome = run(*BPE, "output=mine")
    assert outcome.code == 2
    assert "output: mine is there already" in outcome.err
    assert [file.name for file in (workplace / "mine").iterdir()] == ["notes.txt"]


def test_a_character_outside_the_alphabet_is_a_users_mistake(run: Callable[..., Any]) -> None:
    assert "1 character ('Ω') is not in the tokenizer's alphabet" in run("data=text", "tokenizer=char", "text=Ω").out
    outcome = run("data=text", "tokenizer=char", "text=Ω", "tokenizer.unknown=error")
    assert outcome.code == 2
    assert "U+03A9" in outcome.err
    assert "Traceback" not in outcome.err


def test_wrong_settings_are_named_together(run: Callable[..., Any]) -> None:
    outcome = run(*BPE, "steps=-1", "block_size=0")
    assert outcome.code == 2
    assert "steps: -1 is out of range" in outcome.err
    assert "block_size: 0 is out of range" in outcome.err
