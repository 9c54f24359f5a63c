"""Token files of nanoGPT and llm.c, read in place."""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.data.corpora import token_files as token_files_module
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer

GPT2 = GPT2Tokenizer()
TRAIN = np.random.default_rng(0).integers(0, GPT2.vocab_size, size=1013).astype("<u2")
VAL = np.random.default_rng(1).integers(0, GPT2.vocab_size, size=101).astype("<u2")


def write_nanogpt(file: Path, ids: Sequence[int] | np.ndarray) -> Path:
    """As nanoGPT's prepare.py does: `np.array(ids, dtype=np.uint16).tofile(…)`."""
    np.asarray(ids, dtype="<u2").tofile(file)
    return file


def write_llmc(file: Path, ids: Sequence[int] | np.ndarray, version: int = 1) -> Path:
    """As llm.c's data_common.py does: 256 int32, of which three are set, then uint16."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, version, len(ids)
    file.write_bytes(header.tobytes() + np.asarray(ids, dtype="<u2").tobytes())
    return file


def open_tokens(path: object, tokenizer: Tokenizer = GPT2, **settings: object) -> Tokens:
    cache_dir = Path(str(path).split("*")[0]).parent / "cache"
    return TokenFiles(path=str(path), **settings).open(tokenizer, cache_dir)  # type: ignore[arg-type]


def both(tokens: Tokens) -> tuple[list[int], list[int]]:
    return tokens.train.slice(0, len(tokens.train)).tolist(), tokens.val.slice(0, len(tokens.val)).tolist()


@pytest.mark.parametrize("write", [write_nanogpt, write_llmc])
def test_a_file_for_training_has_that_for_validation_beside_it(tmp_path: Path, write: object) -> None:
    write(tmp_path / "train.bin", TRAIN)
    write(tmp_path / "val.bin", VAL)
    assert both(open_tokens(tmp_path / "train.bin")) == (TRAIN.tolist(), VAL.tolist())


def test_a_pipe_in_place_of_a_vocabulary_is_not_opened(tmp_path: Path) -> None:
    write_nanogpt(tmp_path / "train.bin", TRAIN)
    write_nanogpt(tmp_path / "val.bin", VAL)
    os.mkfifo(tmp_path / "meta.pkl")  # whoever opens it waits for ever
    assert both(open_tokens(tmp_path)) == (TRAIN.tolist(), VAL.tolist())


@pytest.mark.parametrize("path", ["{}", "{}/*_train_*.bin", "{}/fineweb_train_00000[12].bin"])
def test_a_folder_or_a_pattern_takes_all_files_in_order(tmp_path: Path, path: str) -> None:
    write_llmc(tmp_path / "fineweb_train_000002.bin", TRAIN[500:])
    write_llmc(tmp_path / "fineweb_train_000001.bin", TRAIN[:500])
    write_llmc(tmp_path / "fineweb_val_000000.bin", VAL)
    assert both(open_tokens(path.format(tmp_path))) == (TRAIN.tolist(), VAL.tolist())


def test_one_of_several_files_validates_on_those_beside_it(tmp_path: Path) -> None:
    write_llmc(tmp_path / "fineweb_train_000001.bin", TRAIN)
    write_llmc(tmp_path / "fineweb_val_000000.bin", VAL[:50])
    write_llmc(tmp_path / "fineweb_val_000001.bin", VAL[50:])
    write_llmc(tmp_path / "other_val_000000.bin", TRAIN)
    assert both(open_tokens(tmp_path / "fineweb_train_000001.bin")) == (TRAIN.tolist(), VAL[50:].tolist())
    (tmp_path / "fineweb_val_000001.bin").rename(tmp_path / "fineweb_val_000002.bin")
    assert both(open_tokens(tmp_path / "fineweb_train_000001.bin")) == (TRAIN.tolist(), VAL.tolist())


def test_training_files_of_several_names_validate_on_those_of_each(tmp_path: Path) -> None:
    for name, ids in (("a", TRAIN[:500]), ("b", TRAIN[500:])):
        write_llmc(tmp_path / f"{name}_train_000001.bin", ids)
    write_llmc(tmp_path / "a_val_000000.bin", VAL[:50])
    write_llmc(tmp_path / "b_val_000000.bin", VAL[50:])
    assert both(open_tokens(tmp_path)) == (TRAIN.tolist(), VAL.tolist())


@pytest.mark.parametrize("val_path", ["{}/held_out.bin", "{}/held_*.bin"])
def test_validation_files_may_be_named(tmp_path: Path, val_path: str) -> None:
    write_nanogpt(tmp_path / "train.bin", TRAIN)
    write_nanogpt(tmp_path / "val.bin", VAL[:50])
    write_llmc(tmp_path / "held_out.bin", VAL)
    tokens = open_tokens(tmp_path / "train.bin", val_path=val_path.format(tmp_path))
    assert both(tokens) == (TRAIN.tolist(), VAL.tolist())


@pytest.mark.parametrize("write", [write_nanogpt, write_llmc])
@pytest.mark.parametrize(("fraction", "training"), [(0.1, 911), (0.5, 506), (0.001, 1011), (0.999, 1)])
def test_the_last_tokens_validate_where_nothing_else_does(
    tmp_path: Path, write: object, fraction: float, training: int
) -> None:
    """Three files, cut inside one of them: int(1013 * (1 - fraction)) tokens come first."""
    for name, ids in (("a", TRAIN[:400]), ("b", TRAIN[400:700]), ("c", TRAIN[700:])):
        write(tmp_path / f"{name}.bin", ids)
    tokens = open_tokens(tmp_path / "?.bin", val_fraction=fraction)
    assert both(tokens) == (TRAIN[:training].tolist(), TRAIN[training:].tolist())


def test_a_cut_may_fall_between_two_files(tmp_path: Path) -> None:
    write_llmc(tmp_path / "a.bin", TRAIN[:100])
    write_llmc(tmp_path / "b.bin", TRAIN[100:200])
    tokens = open_tokens(tmp_path / "?.bin", val_fraction=0.5)
    assert both(tokens) == (TRAIN[:100].tolist(), TRAIN[100:200].tolist())
    assert len(tokens.train.files) == len(tokens.val.files) == 1


def test_a_file_cannot_train_and_validate(tmp_path: Path) -> None:
    write_llmc(tmp_path / "fineweb_train_000001.bin", TRAIN)
    write_llmc(tmp_path / "fineweb_val_000000.bin", VAL)
    with pytest.raises(UserError, match=r"fineweb_val_000000\.bin would both train and validate"):
        open_tokens(tmp_path / "fineweb_*.bin")


def test_a_prepared_folder_is_read_with_the_tokenizer_that_made_it(tmp_path: Path) -> None:
    text = "the cat sat on the mat. " * 40
    (tmp_path / "text.txt").write_text(text)
    tokenizer = CharTokenizer(text)
    prepare(TextCorpus(path=str(tmp_path / "text.txt")), tokenizer, tmp_path / "shards", tmp_path / "cache")
    tokens = open_tokens(tmp_path / "shards", tokenizer)
    train, val = both(tokens)
    assert tokenizer.decode(train + val) == text
    assert tokens.bytes_per_token == {"train": 1.0, "val": 1.0}
    with pytest.raises(UserError, match=r"made by another tokenizer \(char, .*tokenizer=saved tokenizer\.path="):
        open_tokens(tmp_path / "shards", GPT2)


@pytest.mark.parametrize(
    ("path", "message"),
    [("shards/train-00000.bin", r"train-00000\.bin is a shard.*no meta\.json"), ("shards", "are not all there yet")],
)
def test_a_shard_without_its_folder_is_not_taken_for_bare_ids(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    prepare(TextCorpus(path=str(tmp_path / "text.txt")), GPT2, tmp_path / "shards", tmp_path / "cache")
    (tmp_path / "shards" / "meta.json").unlink()
    with pytest.raises(UserError, match=message):
        open_tokens(tmp_path / path)


def test_files_that_are_no_token_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_text("the cat sat on the mat. " * 40)
    refused(tmp_path / "text.bin", "holds text and not token ids; read it with data=text")
    (tmp_path / "llama.bin").write_bytes(struct.pack("<ii", 20240801, 7) + bytes(1000))
    refused(tmp_path / "llama.bin", "format for Llama 3")


def test_bytes_per_token_are_those_of_the_text(tmp_path: Path) -> None:
    train, val = "One naïve café, twice.", "Ünïcödé ☃!"
    write_nanogpt(tmp_path / "train.bin", [*GPT2.encode(train), GPT2.end_of_text, *GPT2.encode(train)])
    write_nanogpt(tmp_path / "val.bin", GPT2.encode(val))
    ratios = open_tokens(tmp_path).bytes_per_token
    assert ratios["train"] == pytest.approx(2 * len(train.encode()) / (2 * len(GPT2.encode(train)) + 1))
    assert ratios["val"] == pytest.approx(len(val.encode()) / len(GPT2.encode(val)))


def refused(path: object, message: str, **settings: object) -> None:
    with pytest.raises(UserError, match=message):
        open_tokens(path, **settings)


@pytest.mark.parametrize("size", [0, 1, 7, 13, 2027])
def test_a_file_of_half_tokens_or_none_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "train.bin").write_bytes(bytes(size))
    refused(tmp_path / "train.bin", rf"train\.bin has {size:,} bytes, which are no uint16 tokens")


@pytest.mark.parametrize("size", [4, 10, 11, 12, 1023, 1024, 3048, 3049, 3051, 4000])
def test_a_file_of_llmc_that_is_cut_off_or_longer_tells_both_lengths(tmp_path: Path, size: int) -> None:
    file = write_llmc(tmp_path / "train.bin", TRAIN)
    content = file.read_bytes()
    assert len(content) == 1024 + 2 * 1013
    file.write_bytes(content.ljust(size, b"\0")[:size])
    refused(file, rf"{size:,} bytes.*should have|llm\.c's format 0")


def test_another_version_of_llmc_is_refused(tmp_path: Path) -> None:
    refused(write_llmc(tmp_path / "train.bin", TRAIN, version=7), "llm.c's format 7, this version reads format 1")


def test_files_of_very_few_tokens_open(tmp_path: Path) -> None:
    """Whether they are too short is said where the size of a block is known."""
    for count in range(7):
        write_llmc(tmp_path / "train.bin", TRAIN[:count])
        tokens = open_tokens(tmp_path / "train.bin")
        assert len(tokens.train) + len(tokens.val) == count
        if count:
            write_nanogpt(tmp_path / "train.bin", TRAIN[:count])
            assert len(open_tokens(tmp_path / "train.bin").train) == int(count * 0.9)


@pytest.mark.parametrize("place", [0, 399, 400, 1010, 1012])
@pytest.mark.parametrize("write", [write_nanogpt, write_llmc])
def test_an_id_beyond_the_vocabulary_is_named_with_its_place(tmp_path: Path, write: object, place: int) -> None:
    """In the part that trains, and in that which validates."""
    ids = TRAIN.copy()
    ids[place] = 50_257
    write(tmp_path / "a.bin", ids[:400])
    write(tmp_path / "b.bin", ids[400:])
    name, within = ("a", place) if place < 400 else ("b", place - 400)
    message = rf"{name}\.bin: the id at token {within:,} is 50,257, and the tokenizer gpt2 has 50,257 tokens"
    refused(tmp_path / "?.bin", message)


def test_ids_of_a_large_file_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found holds for a smaller vocabulary only where the ids fit it, and only for the file as it was."""
    monkeypatch.setattr(token_files_module, "_SCANNED_AT_ONCE", 100)
    file = write_nanogpt(tmp_path / "train.bin", np.minimum(TRAIN, 70))
    text = CharTokenizer("".join(map(chr, range(40, 140))))
    open_tokens(file, text)
    (memory,) = (tmp_path / "cache" / "largest_ids").iterdir()
    assert json.loads(memory.read_text())["largest"] == 70
    reads: list[int] = []
    scan = token_files_module.TokenSequence.slice
    monkeypatch.setattr(
        token_files_module.TokenSequence, "slice", lambda self, a, b: (reads.append(b - a), scan(self, a, b))[1]
    )
    open_tokens(file, text)
    assert sum(reads) == 200, "the first hundred tokens of each part, for their bytes"
    refused_by = CharTokenizer("".join(map(chr, range(40, 100))))
    with pytest.raises(UserError, match=r"token \d+ .*\d\d.* char .*60 tokens"):
        open_tokens(file, refused_by)
    os.utime(file, ns=(0, 0))
    reads.clear()
    open_tokens(file, text)
    assert sum(reads) > 1013


@pytest.mark.parametrize("settings", [{}, {"val_fraction": 0.001}, {"val_path": "val.bin"}])
def test_a_part_that_was_good_does_not_vouch_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    """The last id is bad, first where it validates and then where it trains."""
    monkeypatch.setattr(token_files_module, "_SCANNED_AT_ONCE", 100)
    monkeypatch.chdir(tmp_path)
    write_nanogpt(tmp_path / "val.bin", VAL)
    file = write_nanogpt(tmp_path / "a.bin", [*TRAIN, 60_000])
    refused(file, "the id at token 1,013 is 60,000", val_fraction=0.5)
    refused(file, "the id at token 1,013 is 60,000", **settings)


def test_missing_files_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.bin", rf"data\.path: {tmp_path}/none\.bin: nothing there")
    refused(tmp_path / "none_*.bin", r"data\.path: .*none_\*\.bin: nothing there")
    refused(tmp_path, r"no \.bin file with 'train' in its name, and no meta\.json")
    file = write_nanogpt(tmp_path / "train.bin", TRAIN)
    refused(file, r"data\.val_path: .*held_out\.bin: nothing there", val_path=str(tmp_path / "held_out.bin"))


def test_folders_that_match_a_pattern_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    refused(tmp_path / "?.bin", "nothing there")
    write_nanogpt(tmp_path / "b.bin", TRAIN)
    assert len(open_tokens(tmp_path / "?.bin").train) == 911


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_val_fraction_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"val_fraction: {fraction} is out of range"):
        TokenFiles(path="any.bin", val_fraction=fraction)


def set_at(meta: dict[str, Any], path: str, value: object) -> str:
    *outer, last = path.split(".")
    inner = meta
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return json.dumps(meta)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.shards", [0]),
        ("train.shards", {"../../x": "0"}),
        ("train.tokens", 0),
        ("train.tokens", "many"),
        ("train.text_bytes", 10**400),
        ("train", None),
        ("tokenizer", "gpt2"),
        ("tokenizer.hash", None),
        ("source", ["x"]),
    ],
)
def test_a_folder_with_strange_values_is_refused(tmp_path: Path, path: str, value: object) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    prepare(TextCorpus(path=str(tmp_path / "text.txt")), GPT2, tmp_path / "shards", tmp_path / "cache")
    file = tmp_path / "shards" / "meta.json"
    file.write_text(set_at(json.loads(file.read_text()), path, value))
    refused(tmp_path / "shards", "has no meta.json that this version can read|than its folder|made by another")


@pytest.mark.parametrize("content", ["[" * 100_000, "", "{", "null", "[]", "{}"])
def test_a_folder_without_a_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "meta.json").write_text(content)
    refused(tmp_path, "has no meta.json that this version can read")


@pytest.mark.parametrize(
    ("offset", "message"), [(16, "cut off or damaged"), (12, "cut off or damaged|bytes per token")]
)
def test_a_shard_whose_header_exceeds_the_file_is_refused(tmp_path: Path, offset: int, message: str) -> None:
    """The number of tokens, and the bytes of each, in the header."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    prepare(TextCorpus(path=str(tmp_path / "text.txt")), GPT2, tmp_path / "shards", tmp_path / "cache")
    file = tmp_path / "shards" / "train-00000.bin"
    content = bytearray(file.read_bytes())
    content[offset + 3] = 0x7F
    file.write_bytes(content)
    refused(tmp_path / "shards", message)
