"""The verb `train` on token files, on documents that are told apart, and on several corpora."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.app.tiny_runs import TINY
from tests.outcomes import refused

Run = Callable[..., object]
SHORT = ["trainer.max_steps=2", "callbacks.samples.max_new_tokens=4"]


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    text = "The old keeper lit the lamp, and the ship came home.\n" * 40
    return np.array(GPT2Tokenizer().encode(text), dtype="<u2")


def write_nanogpt(folder: Path, train: np.ndarray, val: np.ndarray) -> str:
    train.tofile(folder / "train.bin")
    val.tofile(folder / "val.bin")
    return str(folder / "train.bin")


def write_llmc(folder: Path, train: np.ndarray, val: np.ndarray) -> str:
    for name, part in (("train_000001", train), ("val_000000", val)):
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, part.size
        (folder / f"books_{name}.bin").write_bytes(header.tobytes() + part.tobytes())
    return str(folder / "books_train_*.bin")


@pytest.mark.parametrize("write", [write_nanogpt, write_llmc])
def test_token_files_of_others_train_where_they_lie(
    run_verb: Run, workplace: Path, ids: np.ndarray, write: Callable[..., str]
) -> None:
    path = write(workplace, ids[:400], ids[400:])
    outcome = run_verb("train", *TINY, *SHORT, "data=tokens", f"data.path={path}")
    assert outcome.code == 0, outcome
    assert "vocabulary 50,257 (gpt2)" in outcome.out
    assert f"400 tokens to train on, {ids.size - 400} to validate" in outcome.out


def test_prepared_shards_train_with_their_tokenizer(run_verb: Run, workplace: Path, small_text: Path) -> None:
    text = ["data=text", f"data.path={small_text}"]
    assert run_verb("prepare", *text, "tokenizer=bpe", "tokenizer.vocab_size=270", "output=shards").code == 0
    settings = ["data=tokens", "data.path=shards", "tokenizer=saved", "tokenizer.path=shards"]
    outcome = run_verb("train", *TINY, *SHORT, *settings)
    assert outcome.code == 0, outcome
    assert "vocabulary 270 (bpe)" in outcome.out
    refused(run_verb("train", *TINY, "data=tokens", "data.path=shards"), "another tokenizer (bpe", "tokenizer=saved")


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_token_files_hold_no_text_for_a_tokenizer(
    run_verb: Run, workplace: Path, ids: np.ndarray, tokenizer: str
) -> None:
    path = write_nanogpt(workplace, ids[:400], ids[400:])
    outcome = run_verb("train", *TINY, "data=tokens", f"data.path={path}", f"tokenizer={tokenizer}")
    refused(outcome, "token files hold no text", "tokenizer=gpt2, or tokenizer=saved")


def test_token_files_that_are_too_short(run_verb: Run, workplace: Path, ids: np.ndarray) -> None:
    path = write_nanogpt(workplace, ids[:32], ids[400:])
    outcome = run_verb("train", *TINY, "data=tokens", f"data.path={path}")
    refused(outcome, "training part of the text is too short: it has 32 tokens and needs 33")


def test_token_files_and_gpt2_choose_the_same_tokenizer(run_verb: Run) -> None:
    for settings in (["model=gpt2_124m", "data=tokens"], ["data=tokens"]):
        outcome = run_verb("train", *settings, "data.path=train.bin", "--cfg", "job", "--package", "tokenizer")
        assert outcome.code == 0, outcome
        assert "gpt2.from_corpus" in outcome.out


@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_documents_may_be_kept_apart(run_verb: Run, workplace: Path, documents: str) -> None:
    outcome = run_verb("train", *TINY, *SHORT, f"data.documents={documents}")
    assert outcome.code == 0, outcome
    assert "vocabulary 76 (char)" in outcome.out
    (run,) = (workplace / "runs" / "scifi-tiny").iterdir()
    model = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert model["wte.weight"].shape == (76, 32)


def test_one_text_has_no_documents_to_keep_apart(run_verb: Run, small_text: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", "data.documents=masked"]
    refused(run_verb("train", *TINY, *settings), "data.documents=masked", "no end-of-text token")


@pytest.fixture
def two_texts(workplace: Path, small_text: Path) -> Path:
    """The folder of a configuration that mixes two texts."""
    (workplace / "upper.txt").write_text(small_text.read_text().upper())
    (workplace / "lower.txt").write_text(small_text.read_text())
    (workplace / "mine" / "data").mkdir(parents=True)
    (workplace / "mine" / "data" / "two.yaml").write_text(
        "defaults:\n  - /data@corpora.a: text\n  - /data@corpora.b: text\n\n"
        "_target_: gpt2_lightning.data.corpora.mix.Mix\ncorpora:\n  b:\n    path: upper.txt\nweights:\n  b: 2\n"
    )
    return workplace / "mine"


def test_corpora_are_mixed_by_a_yaml(run_verb: Run, workplace: Path, two_texts: Path) -> None:
    settings = ["--config-dir", str(two_texts), "data=two", "data.corpora.a.path=lower.txt", "data.weights.a=3"]
    outcome = run_verb("train", *TINY, *SHORT, *settings, "data.corpora.b.val_fraction=0.5")
    assert outcome.code == 0, outcome
    # 9,000 and 5,000 characters; then one end of text closes the validation part of each.
    assert "14,000 tokens to train on, 6,002 to validate" in outcome.out
    (run,) = (workplace / "runs" / "two-tiny").iterdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["weights"] == {"a": 3, "b": 2}
    with (run / "metrics.csv").open() as file:
        assert list(csv.DictReader(file))[-1]["val/loss"]


def test_a_mix_trains_on_its_shares(run_verb: Run, workplace: Path, two_texts: Path) -> None:
    """After a run on capital letters almost alone, the samples are in capitals, and the other way round."""
    settings = ["--config-dir", str(two_texts), "data=two", "data.corpora.a.path=lower.txt", "trainer.max_steps=60"]
    for shares, kind in ((("1e-6", "1"), str.isupper), (("1", "1e-6"), str.islower)):
        weights = [f"data.weights.{name}={share}" for name, share in zip("ab", shares, strict=True)]
        outcome = run_verb("train", *TINY, *settings, *weights, f"name={kind.__name__}")
        assert outcome.code == 0, outcome
        (run,) = (workplace / "runs" / kind.__name__).iterdir()
        letters = [c for c in (run / "samples.md").read_text().split("~~~text\n")[-1].split("~~~")[0] if c.isalpha()]
        assert len(letters) > 5
        assert sum(map(kind, letters)) > 0.8 * len(letters)


def test_a_mix_may_hold_token_files(run_verb: Run, workplace: Path, two_texts: Path, ids: np.ndarray) -> None:
    """They bring their tokenizer, also to the other corpora."""
    path = write_nanogpt(workplace, ids[:400], ids[400:])
    file = two_texts / "data" / "two.yaml"
    file.write_text(file.read_text().replace("corpora.a: text", "corpora.a: tokens"))
    outcome = run_verb(
        "train", *TINY, *SHORT, "--config-dir", str(two_texts), "data=two", f"data.corpora.a.path={path}"
    )
    assert outcome.code == 0, outcome
    assert "vocabulary 50,257 (gpt2)" in outcome.out


def test_faults_of_a_mix_come_in_one_message(run_verb: Run, two_texts: Path) -> None:
    settings = ["data.corpora.a.val_fraction=2", "data.weights.c=1", "data.corpora.b.pat=x", "data.weights.b=-1"]
    outcome = run_verb("train", *TINY, "--config-dir", str(two_texts), "data=two", *settings)
    refused(
        outcome,
        "data.corpora.a.path: missing; add data.corpora.a.path=VALUE",
        "data.corpora.b.pat: unknown key; did you mean data.corpora.b.path?",
        "data.weights.c: there is no corpus of this name; there are a, b",
        "data.weights.b: -1 is out of range",
    )


def test_shipped_mix_takes_settings_of_its_parts(run_verb: Run) -> None:
    settings = ["data.corpora.scifi.val_fraction=0.2", "data.weights.shakespeare=0.5", "data.documents=masked"]
    outcome = run_verb("train", "data=mix", *settings, "--cfg", "job", "--package", "data")
    assert outcome.code == 0, outcome
    data = yaml.safe_load(outcome.out.split("\n", 1)[1])
    assert list(data["corpora"]) == ["scifi", "shakespeare"]
    assert data["corpora"]["scifi"]["val_fraction"] == 0.2
    assert data["weights"] == {"shakespeare": 0.5}
