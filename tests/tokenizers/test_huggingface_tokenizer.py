"""Tokenizers that Hugging Face's library describes and runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import HuggingFaceTokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.huggingface import from_corpus

TEXT = "the thin theme of the thing: über 日本, 42 and the rest of the text " * 3


def byte_level(special: list[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=311, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def metaspace(special: list[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=61, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def byte_fallback(special: list[str]) -> tokenizers.Tokenizer:
    """As Llama 2's: spaces as ▁, one before the text, and bytes for what has no token."""
    characters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", *special, *bytes_, *characters, "th", "the", "▁the"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            [("t", "h"), ("th", "e"), ("▁", "the")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def wordpiece(special: list[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=73, special_tokens=["[UNK]", *special], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


KINDS = {"byte level": byte_level, "metaspace": metaspace, "byte fallback": byte_fallback, "wordpiece": wordpiece}
every_kind = pytest.mark.parametrize("kind", KINDS)


def ours(theirs: tokenizers.Tokenizer, end: str | None = None) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(theirs.to_str(), end)


BYTE_LEVEL, BYTE_FALLBACK = ours(byte_level(["</s>"])), ours(byte_fallback(["</s>"]))


@every_kind
def test_ids_and_text_are_the_librarys(kind: str) -> None:
    theirs = KINDS[kind](["</s>"])
    tokenizer = ours(theirs)
    for text in (TEXT, "", "the 🚀 thing\n\n", "Zebra"):
        ids = tokenizer.encode(text)
        assert ids.tolist() == theirs.encode(text).ids
        assert ids.dtype == np.uint16
        assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == theirs.decode(ids.tolist(), False)
    assert tokenizer.vocab_size == theirs.get_vocab_size()


@every_kind
def test_a_batch_is_each_text_by_itself(kind: str) -> None:
    tokenizer = ours(KINDS[kind]([]))
    texts = ["the theme", "", TEXT, "thin \ud800 ice"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(t).tolist() for t in texts]


@every_kind
def test_bytes_of_tokens_make_the_text(kind: str) -> None:
    """A first space, which these vocabularies put before every text, is the only difference."""
    tokenizer = ours(KINDS[kind](["</s>"]))
    for text in (TEXT, "the the 日本 über"):
        ids = tokenizer.encode(text).tolist()
        joined = b"".join(map(tokenizer.token_bytes, ids)).decode()
        assert joined.removeprefix(" ") == tokenizer.decode(ids)
    assert tokenizer.token_bytes(tokenizer._tokenizer.token_to_id("</s>")) == b"</s>"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_of_byte_level_tokens_are_the_texts(text: str) -> None:
    assert b"".join(map(BYTE_LEVEL.token_bytes, BYTE_LEVEL.encode(text))) == text.encode()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1))
def test_bytes_of_byte_fallback_tokens_are_the_texts(text: str) -> None:
    assert b"".join(map(BYTE_FALLBACK.token_bytes, BYTE_FALLBACK.encode(text))) == b" " + text.encode()


def test_bytes_of_a_token_that_is_written_as_it_is() -> None:
    theirs = byte_level([])
    theirs.add_tokens(["日 本"])
    tokenizer = ours(theirs)
    assert tokenizer.token_bytes(tokenizer.vocab_size - 1) == "日 本".encode()


def test_bytes_of_single_tokens() -> None:
    assert BYTE_FALLBACK.token_bytes(2 + 0xE6) == b"\xe6"
    assert [BYTE_FALLBACK.token_bytes(i) for i in range(BYTE_FALLBACK.vocab_size - 3, BYTE_FALLBACK.vocab_size)] == [
        b"th",
        b"the",
        b" the",
    ]
    assert BYTE_LEVEL.token_bytes(BYTE_LEVEL.encode(" the")[0]) == b" the"


@every_kind
def test_special_tokens_in_a_text_are_text(kind: str) -> None:
    tokenizer = ours(KINDS[kind](["</s>"]), "</s>")
    assert tokenizer.end_of_text == KINDS[kind](["</s>"]).token_to_id("</s>")
    assert tokenizer.end_of_text not in tokenizer.encode("the</s> thing")
    assert tokenizer.end_of_text not in tokenizer.encode_batch(["the</s> thing"])[0]
    assert "</s>" in tokenizer.decode([tokenizer.end_of_text, *tokenizer.encode("the")])


def test_nothing_is_added_cut_or_left_to_chance() -> None:
    theirs = byte_level(["</s>"])
    plain = theirs.encode(TEXT).ids
    theirs.post_processor = processors.TemplateProcessing(single="</s> $A </s>", special_tokens=[("</s>", 0)])
    theirs.enable_truncation(7)
    theirs.enable_padding(length=1000)
    theirs.model.dropout = 0.5
    tokenizer = ours(theirs)
    assert tokenizer.encode(TEXT).tolist() == tokenizer.encode_batch([TEXT])[0].tolist() == plain


def test_vocab_size_is_the_highest_id_and_one() -> None:
    model = models.WordLevel({"a": 0, "b": 70_000}, unk_token="a")
    tokenizer = ours(tokenizers.Tokenizer(model))
    assert tokenizer.vocab_size == 70_001
    assert tokenizer.encode("b").dtype == np.uint32
    assert tokenizer.token_bytes(5) == b""


def test_a_text_that_it_cannot_encode_is_a_users_mistake() -> None:
    tokenizer = ours(tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="none")))
    with pytest.raises(UserError, match=r"cannot encode the text: WordLevel error: Missing \[UNK\]"):
        tokenizer.encode("b")
    with pytest.raises(UserError, match="cannot encode one of the texts: WordLevel error"):
        tokenizer.encode_batch(["a", "b"])


def test_a_lone_surrogate_becomes_a_replacement() -> None:
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode("a\ud800b")) == "a\ufffdb"


def test_saved_and_read_it_is_the_same() -> None:
    tokenizer = ours(metaspace(["</s>"]), "</s>")
    again = tokenizer_from_text(tokenizer.to_text())
    assert again.hash() == tokenizer.hash()
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert again.end_of_text == tokenizer.end_of_text is not None


def folder_with(tmp_path: Path, special: list[str], config: Any = None) -> Path:
    (tmp_path / "tokenizer.json").write_text(byte_level(special).to_str(), encoding="utf-8")
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("special", "config", "end"),
    [
        ([], None, None),
        (["<pad>"], None, None),
        (["</s>", "<|endoftext|>"], None, "<|endoftext|>"),
        (["[SEP]", "</s>"], {}, "</s>"),
        (["<|endoftext|>", "<|im_end|>"], {"eos_token": "<|im_end|>"}, "<|im_end|>"),
        (["<|endoftext|>", "<end>"], {"eos_token": {"content": "<end>", "special": True}}, "<end>"),
        (["<|endoftext|>"], {"eos_token": None}, "<|endoftext|>"),
    ],
)
def test_the_end_of_text_is_found(tmp_path: Path, special: list[str], config: Any, end: str | None) -> None:
    tokenizer = from_corpus([], True, str(folder_with(tmp_path, special, config)))
    assert tokenizer.end_of_text == (None if end is None else special.index(end))


def test_a_file_by_itself_is_read_without_its_neighbours(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ["<|endoftext|>", "<end>"], {"eos_token": "<end>"})
    assert from_corpus([], True, str(folder / "tokenizer.json")).end_of_text == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "it is no JSON object with a model"),
        ('{"vocab": {}}', "it is no JSON object with a model"),
        ('{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "it has no tokens"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}', "Token `b` out of vocabulary"),
        ('{"model": {"type": "Quantum"}}', "Quantum|variant|match"),
    ],
)
def test_an_unfit_file_is_named_with_the_reason(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(UserError, match=f"{file} cannot be used as a tokenizer of Hugging Face's: .*({why})"):
        from_corpus([], False, str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / 'tokenizer.json'}.*: No such file"):
        from_corpus([], False, str(tmp_path))


def test_an_end_of_text_without_an_id_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ["<pad>"], {"eos_token": "<end>"})
    with pytest.raises(UserError, match=r"'<end>'.* end of text"):
        from_corpus([], False, str(folder))


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_faulty_configuration_is_named(tmp_path: Path, content: str) -> None:
    folder = folder_with(tmp_path, [])
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match=f"{folder / 'tokenizer_config.json'} .*configuration"):
        from_corpus([], False, str(folder))


def test_without_the_library_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, [])
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install gpt2-lightning\[huggingface\]"):
        from_corpus([], False, str(folder))
