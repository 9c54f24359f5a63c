"""Tokenizers as text in a checkpoint, and back."""

from __future__ import annotations

import hashlib
import json
import lzma

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.gpt2 import MERGES

TEXT = 'The "airlock" sighed; \\ été, 日本 🚀\n'

both = pytest.mark.parametrize("tokenizer", [CharTokenizer(TEXT), GPT2Tokenizer()], ids=["char", "gpt2"])


@both
def test_a_saved_tokenizer_does_the_same(tokenizer: Tokenizer) -> None:
    loaded = tokenizer_from_text(tokenizer.to_text())
    assert type(loaded) is type(tokenizer)
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert loaded.decode(loaded.encode(TEXT).tolist()) == TEXT
    assert (loaded.to_text(), loaded.hash()) == (tokenizer.to_text(), tokenizer.hash())


def test_saved_text_is_json_and_says_what_the_tokenizer_is() -> None:
    assert json.loads(CharTokenizer("b🚀a").to_text()) == {"kind": "char", "alphabet": "ab🚀"}
    table = hashlib.sha256(lzma.decompress(MERGES.read_bytes())).hexdigest()
    assert json.loads(GPT2Tokenizer().to_text()) == {"kind": "gpt2", "merges_sha256": table}


@both
def test_hash_is_the_texts_sha256(tokenizer: Tokenizer) -> None:
    assert tokenizer.hash() == hashlib.sha256(tokenizer.to_text().encode()).hexdigest()


def test_an_alphabet_with_a_lone_surrogate_survives() -> None:
    tokenizer = CharTokenizer("a\ud800")
    loaded = tokenizer_from_text(tokenizer.to_text())
    assert loaded.encode("\ud800a").tolist() == [1, 0]
    assert loaded.hash() == tokenizer.hash()


def test_kinds_do_not_share_a_hash() -> None:
    assert len({CharTokenizer("a").hash(), CharTokenizer("b").hash(), GPT2Tokenizer().hash()}) == 3


@pytest.mark.parametrize(("saved", "named"), [('{"kind": "bytes"}', "'bytes'"), ("{}", "'None'")])
def test_an_unknown_kind_is_refused_with_the_known_ones(saved: str, named: str) -> None:
    with pytest.raises(UserError, match=rf"tokenizer is of kind {named}; this version knows bpe, char, gpt2$"):
        tokenizer_from_text(saved)
