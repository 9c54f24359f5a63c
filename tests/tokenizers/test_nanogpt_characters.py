"""nanoGPT's meta.pkl: its characters are read, and no code in it runs."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, nanogpt
from gpt2_lightning.tokenizers.saved import from_corpus

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n" * 40


def nanogpts_folder(folder: Path, protocol: int | None = None) -> Path:
    """Write what nanoGPT's data/shakespeare_char/prepare.py writes."""
    chars = sorted(set(TEXT))
    stoi = {ch: i for i, ch in enumerate(chars)}
    ids = np.array([stoi[c] for c in TEXT], dtype=np.uint16)
    ids[:-200].tofile(folder / "train.bin")
    ids[-200:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta, protocol))
    return folder


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
def test_the_characters_decode_the_token_files(tmp_path: Path, protocol: int | None) -> None:
    folder = nanogpts_folder(tmp_path, protocol)
    tokenizer = from_corpus((), False, str(folder / "meta.pkl"))
    tokens = TokenFiles(path=str(folder / "train.bin")).open(tokenizer, tmp_path / "cache")
    assert tokenizer.decode(tokens.train.slice(0, len(tokens.train)).tolist()) == TEXT[:-200]
    assert tokens.bytes_per_token == {"train": 1.0, "val": 1.0}


@pytest.mark.parametrize("tokenizer", [GPT2Tokenizer(), CharTokenizer(TEXT + "é")])
def test_the_ids_of_characters_are_not_taken_for_those_of_another_tokenizer(tmp_path: Path, tokenizer: Any) -> None:
    folder = nanogpts_folder(tmp_path)
    message = (
        rf"{len(set(TEXT))} characters.*{tokenizer.vocab_size:,} tokens; set tokenizer=saved tokenizer\.path=.*pkl"
    )
    with pytest.raises(UserError, match=message):
        TokenFiles(path=str(folder / "train.bin")).open(tokenizer, tmp_path / "cache")


class Payload:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(6))
def test_no_code_of_a_pickle_runs(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    folder = nanogpts_folder(tmp_path)
    (folder / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: Payload(made)}}, protocol))
    with pytest.raises(
        UserError, match=r"the vocabulary of these token files cannot be used: .*only numbers and texts"
    ):
        TokenFiles(path=str(folder / "train.bin")).open(GPT2Tokenizer(), tmp_path / "cache")
    assert not made.exists()
    pickle.loads((folder / "meta.pkl").read_bytes())
    assert made.exists(), "the payload works where pickles run"


def deep_key() -> bytes:
    """A key whose hash takes 2**60 steps: a tuple of twice the same tuple, and so on."""
    return b"\x80\x04}" + b")" + b"2\x86" * 60 + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "pickle exhausted"),
        (b"not a pickle", "is no vocabulary"),
        (pickle.dumps(["a"]), "EMPTY_LIST"),
        (pickle.dumps({"vocab_size": 65}), "'itos'"),
        (pickle.dumps({"itos": {1: "a"}}), "is no vocabulary"),
        (pickle.dumps({"itos": {0: 7}}), "is no vocabulary"),
        (pickle.dumps({"itos": {0: "b", 1: "a"}}), "not single characters in the order"),
        (pickle.dumps({"itos": {0: "ab", 1: "c"}}), "not single characters"),
        (pickle.dumps({"itos": {}}), "at least one character"),
        (deep_key(), "EMPTY_TUPLE"),
        (b"\x80\x04}r" + struct.pack("<I", 2**32 - 1) + b".", "index of 4,294,967,295"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.", "is no vocabulary"),
        (b"\x80\x04X" + struct.pack("<I", 2**31) + b"a.", "is no vocabulary"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "meta.pkl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        nanogpt.read_characters(file)


def test_operations_that_are_read_name_and_call_nothing() -> None:
    known = {operation.name: operation for operation in pickletools.opcodes}
    assert known.keys() >= nanogpt._PLAIN
    assert not {
        n for n in nanogpt._PLAIN if any(word in n for word in ("GLOBAL", "REDUCE", "OBJ", "INST", "BUILD", "EXT"))
    }


def test_devices_and_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is a device"):
        from_corpus((), False, "/dev/zero")
    (tmp_path / "meta.pkl").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a device"):
        from_corpus((), False, str(tmp_path / "meta.pkl"))
    with pytest.raises(UserError, match="is a folder"):
        nanogpt.read_characters(tmp_path)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(2**40)  # takes no space
    with pytest.raises(UserError, match="has more than 67,108,864 bytes"):
        from_corpus((), False, str(large))
