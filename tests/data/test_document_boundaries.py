"""Ends of text between files, from the files to the batches of training and validation, for few files and many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.app.run import corpora
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import Tokens, open_prepared
from gpt2_lightning.tokenizers import GPT2Tokenizer, Tokenizer
from gpt2_lightning.tokenizers.char import from_corpus

GPT2 = GPT2Tokenizer()
WORDS, PADDING = 100, 0

files_and_ends = pytest.mark.parametrize(
    ("files", "ends"), [(1, (0, 1)), (2, (2, 2)), (5, (5, 5)), (9, (9, 9)), (10, (9, 1)), (79, (72, 7))]
)
"""Ends of text in the training and in the validation part. The training part of an only file has none."""


def library(folder: Path, files: int) -> TextCorpus:
    """Write files; each has one word of its own."""
    folder.mkdir()
    for n in range(files):
        (folder / f"{n:03d}.txt").write_text(" ".join([word(n)] * WORDS), encoding="utf-8")
    return TextCorpus(path=str(folder))


def word(number: int) -> str:
    return 5 * chr(ord("#") + number)


def opened(corpus: TextCorpus, tokenizer: Tokenizer, folder: Path) -> Tokens:
    prepare(corpus, tokenizer, folder / "shards", folder / "cache")
    return open_prepared(folder / "shards", tokenizer, folder / "cache")


def texts(ids: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """Texts between ends of text."""
    ends = np.flatnonzero(ids == tokenizer.end_of_text)
    return [tokenizer.decode([i for i in part if i != tokenizer.end_of_text]) for part in np.split(ids, ends + 1)]


@files_and_ends
@pytest.mark.parametrize("kind", ["gpt2", "char"])
def test_every_file_ends_with_an_end_of_text_in_both_parts(
    tmp_path: Path, files: int, ends: tuple[int, int], kind: str
) -> None:
    corpus = library(tmp_path / "books", files)
    tokenizer: Tokenizer = GPT2
    if kind == "char":
        tokenizer = from_corpus(corpus.training_text(), several_documents=True, unknown="replace")
    tokens = opened(corpus, tokenizer, tmp_path)
    for sequence, expected in zip((tokens.train, tokens.val), ends, strict=True):
        found = texts(sequence.slice(0, len(sequence)), tokenizer)
        assert len(found) - 1 == expected
        assert all(len(set(text.split())) <= 1 for text in found), "a text has the word of one file, and whole"


@files_and_ends
@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_windows_know_the_boundaries(tmp_path: Path, files: int, ends: tuple[int, int], documents: Documents) -> None:
    """In every row, the inputs that attend to each other have the word of one file."""
    tokens = opened(library(tmp_path / "books", files), GPT2, tmp_path)
    data = TokenDataModule([tokens], 32, 4, documents=documents, end_of_text=GPT2.end_of_text)
    training = data.samples.read(np.arange(data.samples.per_epoch))
    for batch in (training, *data.val_dataloader()):
        masks = batch.inputs * 0 if batch.documents is None else batch.documents
        for inputs, mask in zip(batch.inputs.numpy(), masks.numpy(), strict=True):
            for document in np.unique(mask):
                read = inputs[(mask == document) & (inputs != GPT2.end_of_text) & (inputs != PADDING)]
                assert len(set(GPT2.decode(read).replace(" ", ""))) <= 1
    if training.documents is not None:
        assert bool(training.documents.any()) == (files > 1), "windows with a boundary"


def test_shards_of_a_version_without_these_boundaries_are_not_reused(tmp_path: Path) -> None:
    """Fingerprints of several divided files differ from those of earlier versions, and others are as they were."""
    one, few, many = (library(tmp_path / str(n), n) for n in (1, 5, 10))
    assert one.fingerprint(tmp_path) == "79f0f612e408567298d4165dcadfd1f806d70cddd034c91ac916155ede202c6e"
    assert many.fingerprint(tmp_path) == "afa143e8a8c42f7ed94bdc2e2d2a08d548798cab25ab00c559200c9deef34a3d"
    assert few.fingerprint(tmp_path) != "6614f37a85cc5af03a846b641f5909e372eeee2c3579e6824dd204f8b351705d"


@pytest.mark.parametrize(
    ("files", "documents", "warned"), [(1, "masked", True), (1, "joined", False), (2, "masked", False)]
)
def test_a_treatment_of_boundaries_that_has_no_effect_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: int, documents: Documents, warned: bool
) -> None:
    corpus = replace(library(tmp_path / "books", files), documents=documents)
    settings: Any = SimpleNamespace(samples_in_step=lambda block_size: 4, seed=0)
    corpora.token_data(corpus, GPT2, tmp_path / "cache", 8, settings, 4)
    assert ("data.documents=masked has no effect" in caplog.text) == warned
