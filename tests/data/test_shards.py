"""The file format of shards, and what is wrong with those that do not keep to it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.shards.format import HEADER_BYTES, Header, read_header, require_checksum, writing
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer

SOURCE = "5a" * 32
IDS = [5, 50256, 0, 7, 300]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    file = tmp_path / "train-00000.bin"
    with writing(file, GPT2Tokenizer(), SOURCE) as to:
        to.add(np.array(IDS[:2], dtype=np.uint16))
        to.add(np.array(IDS[2:], dtype=np.uint16))
        to.documents, to.text_bytes = 1, 17
    return file


def test_a_header_says_what_the_ids_are(shard: Path) -> None:
    """Read byte by byte, as a program in another language would."""
    content = shard.read_bytes()
    ids = struct.pack("<5H", *IDS)
    assert content[:8] == b"GPT2LTOK"
    assert struct.unpack("<IIQQQQ", content[8:48]) == (1, 2, 5, 1, 17, 50257)
    assert content[48:80].hex() == GPT2Tokenizer().hash()
    assert content[80:112].hex() == SOURCE
    assert content[112:144] == hashlib.sha256(ids).digest()
    assert content[144:256] == bytes(112)
    assert content[256:] == ids


def test_a_header_is_read_as_it_was_written(shard: Path) -> None:
    checksum = hashlib.sha256(struct.pack("<5H", *IDS)).hexdigest()
    assert read_header(shard) == Header(1, 2, 5, 1, 17, 50257, GPT2Tokenizer().hash(), SOURCE, checksum)


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    tokenizer = CharTokenizer("".join(map(chr, range(0x10000, 0x10000 + 65_537))))
    with writing(tmp_path / "a.bin", tokenizer, SOURCE) as to:
        to.add(np.array([65_536, 1], dtype=np.uint32))
    assert read_header(tmp_path / "a.bin").itemsize == 4
    assert (tmp_path / "a.bin").read_bytes()[256:] == struct.pack("<2I", 65_536, 1)


def test_a_shard_that_is_not_finished_has_no_name(tmp_path: Path) -> None:
    def stopped() -> None:
        with writing(tmp_path / "a.bin", GPT2Tokenizer(), SOURCE) as to:
            to.add(np.arange(5, dtype=np.uint16))
            assert not (tmp_path / "a.bin").exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert not list(tmp_path.iterdir())


Damage = Callable[[bytes], bytes]


def without_the_last(count: int) -> Damage:
    return lambda content: content[:-count]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_the_last(1), "is cut off or damaged: it has 265 bytes, and with the 5 tokens .* should have 266"),
        (without_the_last(10), "is cut off or damaged: it has 256 bytes, and with the 5 tokens .* should have 266"),
        (
            lambda content: content + b"\0\0",
            "is cut off or damaged: it has 268 bytes, and with the 5 tokens .* should have 266",
        ),
        (without_the_last(11), "is no token shard: it does not begin with GPT2LTOK"),
        (lambda content: b"", "is no token shard: it does not begin with GPT2LTOK"),
        (lambda content: b"X" + content[1:], "is no token shard: it does not begin with GPT2LTOK"),
        (lambda content: content[:8] + b"\x02" + content[9:], "has format 2, this version reads format 1"),
    ],
    ids=["odd", "no ids", "longer", "half a header", "empty", "other magic", "later format"],
)
def test_a_shard_that_is_not_as_it_says_is_refused(shard: Path, damage: Damage, message: str) -> None:
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(UserError, match=rf"train-00000\.bin {message}"):
        read_header(shard)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.bin cannot be read: No such file or directory; prepare"):
        read_header(tmp_path / "gone.bin")


@pytest.mark.parametrize("place", [HEADER_BYTES, -1])
def test_altered_ids_are_told_by_both_checksums(shard: Path, tmp_path: Path, place: int) -> None:
    header = read_header(shard)
    require_checksum(shard, header, tmp_path)
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)
    found = hashlib.sha256(content[256:]).hexdigest()
    with pytest.raises(UserError, match=rf"was altered: .* is {found[:16]}…, its header says {header.checksum[:16]}…"):
        require_checksum(shard, header, tmp_path)


# Shards in their folder


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text("the cat sat on the mat, and the hat on the cat")
    corpus = TextCorpus(path=str(tmp_path / "book.txt"))
    return prepare(corpus, GPT2Tokenizer(), tmp_path / "out", tmp_path / "cache").folder


def open_(folder: Path, tokenizer: Tokenizer | None = None) -> None:
    open_prepared(folder, tokenizer or GPT2Tokenizer(), folder.parent / "cache")


def test_another_tokenizer_is_told_by_both_hashes(prepared: Path) -> None:
    other = CharTokenizer("abc")
    with pytest.raises(UserError) as caught:
        open_(prepared, other)
    for part in (f"gpt2, hash {GPT2Tokenizer().hash()[:12]}", f"char, hash {other.hash()[:12]}"):
        assert part in str(caught.value)
    assert f"tokenizer=saved tokenizer.path={prepared}" in str(caught.value)


def test_a_shard_of_another_tokenizer_is_named(prepared: Path) -> None:
    source = read_header(prepared / "train-00000.bin").source
    other = CharTokenizer("abc")
    with writing(prepared / "train-00000.bin", other, source) as to:
        to.add(np.array([1, 2], dtype=np.uint16))
    with pytest.raises(UserError, match=rf"train-00000\.bin was made by another tokenizer \(hash {other.hash()[:12]}"):
        open_(prepared)


def test_a_shard_of_another_text_is_named(prepared: Path) -> None:
    source = read_header(prepared / "train-00000.bin").source
    with writing(prepared / "train-00000.bin", GPT2Tokenizer(), SOURCE) as to:
        to.add(np.array([1, 2], dtype=np.uint16))
    message = rf"train-00000\.bin was made from another text .*{SOURCE[:12]}\) than its folder says \({source[:12]}"
    with pytest.raises(UserError, match=message):
        open_(prepared)


@pytest.mark.parametrize("damage", ["missing", "cut off", "altered"])
def test_a_damaged_shard_of_a_folder_is_named(prepared: Path, damage: str) -> None:
    shard = prepared / "train-00000.bin"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content[:-2] if damage == "cut off" else content[:-2] + b"\1\1")
    with pytest.raises(UserError, match=r"train-00000\.bin .*prepare the corpus again"):
        open_(prepared)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", json.dumps({"train": {"shards": []}})])
def test_a_folder_without_its_notes_is_no_prepared_one(prepared: Path, content: str | None) -> None:
    meta = prepared / "meta.json"
    meta.unlink() if content is None else meta.write_text(content)
    with pytest.raises(UserError, match=r"has no meta\.json that this version can read; prepare it again"):
        open_(prepared)


def test_shards_that_changed_places_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three " * 40_000)
    tokenizer = GPT2Tokenizer()
    prepare(TextCorpus(path=str(tmp_path / "a.txt")), tokenizer, tmp_path / "out", tmp_path / "cache")
    one, other = sorted((tmp_path / "out").glob("train-*.bin"))[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match=r"train-00000\.bin is another than was written there"):
        open_prepared(tmp_path / "out", tokenizer, tmp_path / "cache")
    one.write_bytes(content)
    open_prepared(tmp_path / "out", tokenizer, tmp_path / "cache")


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three " * 400)
    tokenizer = GPT2Tokenizer()
    prepare(TextCorpus(path=str(tmp_path / "a.txt")), tokenizer, tmp_path / "out", tmp_path / "cache")
    meta = tmp_path / "out" / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="has format 2, this version reads format 1"):
        open_prepared(tmp_path / "out", tokenizer, tmp_path / "cache")
