"""Tokenizers as text in a checkpoint or a file, and back."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, GPT2Tokenizer, Tokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.gpt2 import MERGES
from gpt2_lightning.tokenizers.saved import FILE, from_corpus, write_tokenizer

TEXT = 'The "airlock" sighed; \\ été, 日本 🚀\n'

several = pytest.mark.parametrize(
    "tokenizer",
    [
        CharTokenizer(TEXT),
        CharTokenizer(TEXT, "replace", end_of_text=True),
        GPT2Tokenizer(),
        BPETokenizer([(66, 77)], ["<|user|>"]),
    ],
    ids=["char", "char that replaces", "gpt2", "bpe"],
)


@several
def test_a_saved_tokenizer_does_the_same(tokenizer: Tokenizer) -> None:
    loaded = tokenizer_from_text(tokenizer.to_text())
    assert type(loaded) is type(tokenizer)
    assert (loaded.vocab_size, loaded.end_of_text) == (tokenizer.vocab_size, tokenizer.end_of_text)
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert loaded.decode(loaded.encode(TEXT).tolist()) == TEXT
    assert (loaded.to_text(), loaded.hash()) == (tokenizer.to_text(), tokenizer.hash())


def test_saved_text_is_json_and_says_what_the_tokenizer_is() -> None:
    fields = {"kind": "char", "alphabet": "ab🚀", "unknown": "skip", "end_of_text": True}
    assert json.loads(CharTokenizer("b🚀a", "skip", end_of_text=True).to_text()) == fields
    table = hashlib.sha256(lzma.decompress(MERGES.read_bytes())).hexdigest()
    assert json.loads(GPT2Tokenizer().to_text()) == {"kind": "gpt2", "merges_sha256": table}


@several
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
    with pytest.raises(UserError, match=rf"{named}.* bpe, char, gpt2, huggingface"):
        tokenizer_from_text(saved)


def test_an_early_character_tokenizer_is_read() -> None:
    loaded = tokenizer_from_text('{"alphabet": "abc", "kind": "char"}')
    assert loaded.hash() == CharTokenizer("abc").hash()
    assert loaded.end_of_text is None
    assert loaded.unknown == "substitute"


@pytest.mark.parametrize(
    "saved",
    [
        '{"kind": "char"}',
        '{"kind": "char", "alphabet": "ab", "unknown": "guess"}',
        '{"kind": "char", "alphabet": "ab", "case": 1}',
        '{"kind": "bpe", "merges": ["a b", "abc d"], "special_tokens": []}',
        '{"kind": "bpe", "merges": ["a"], "special_tokens": []}',
        '{"kind": "bpe", "merges": ["a b"]}',
        '{"kind": "gpt2"}',
        '{"kind": "huggingface", "definition": "{}", "end_of_text": null}',
    ],
)
def test_a_damaged_tokenizer_is_refused(saved: str) -> None:
    with pytest.raises(UserError, match=f"the saved tokenizer of kind '{json.loads(saved)['kind']}' is damaged: "):
        tokenizer_from_text(saved)


@pytest.mark.parametrize("saved", ["", "{", "[]", "3"])
def test_what_is_no_tokenizer_is_refused(saved: str) -> None:
    with pytest.raises(UserError, match=r"the saved tokenizer (cannot be read: Expecting|is of kind 'None')"):
        tokenizer_from_text(saved)


@several
def test_a_tokenizer_in_a_file_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / FILE
    write_tokenizer(tokenizer, file)
    assert [path.name for path in file.parent.iterdir()] == [FILE]
    for path in (file, file.parent):
        assert from_corpus(iter([]), False, str(path)).hash() == tokenizer.hash()


def test_a_file_is_replaced_whole_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / FILE
    write_tokenizer(CharTokenizer("ab"), file)
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError, match=f"{file}.*: No space left on device"):
            write_tokenizer(CharTokenizer("cd"), file)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert file.read_bytes() == before
    write_tokenizer(CharTokenizer("cd"), file)
    assert file.read_bytes() != before


def test_files_that_hold_no_tokenizer_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / FILE}.*: No such file or directory"):
        from_corpus([], False, str(tmp_path))
    binary, other = tmp_path / "binary", tmp_path / "other.json"
    binary.write_bytes(b"ab\xff")
    other.write_text('{"model": {}}')
    with pytest.raises(UserError, match=rf"{binary} is no UTF-8 text \(byte 2\)"):
        from_corpus([], False, str(binary))
    with pytest.raises(UserError, match=f"{other}: .*'None'.* bpe"):
        from_corpus([], False, str(other))
