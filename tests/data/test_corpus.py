"""Text files as documents: which of them train and which validate, and in which pieces they are read."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpt2_lightning.data.corpora import text, text_files
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import BadRow, Segment, Split, split_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import BPETokenizer, GPT2Tokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus

SPLITS: tuple[Split, ...] = ("train", "val")
BOOK = "abcdefghij" * 10


@pytest.fixture
def book(tmp_path: Path) -> Path:
    file = tmp_path / "book.txt"
    file.write_text(BOOK, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return from_corpus(["it's '  s  'll we'll \n\n 's 日本 é 1 ½ \n日 _ ._. 🚀"] * 3, True, 330)


def read_all(corpus: TextCorpus, whole: bool = False) -> list[Segment | BadRow]:
    pieces: list[Any] = corpus.pieces(whole_documents=whole)
    return [found for piece in pieces for found in corpus.read(piece)]


def documents(corpus: TextCorpus) -> list[tuple[str, Split]]:
    """Every document with its split; segments that a document does not end with are joined to the next one."""
    found, begun = [], ""
    for segment in read_all(corpus):
        assert isinstance(segment, Segment), segment
        begun += segment.text
        if segment.ends_document:
            found.append((begun, segment.split))
            begun = ""
    assert not begun
    return found


def parts(corpus: TextCorpus) -> dict[Split, str]:
    """The text of both parts."""
    texts: dict[Split, str] = {"train": "", "val": ""}
    for segment in read_all(corpus):
        assert isinstance(segment, Segment), segment
        texts[segment.split] += segment.text
    return texts


def write_rows(file: Path, texts: list[str]) -> Path:
    content = "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts)).encode()
    packed = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(file.suffix, bytes)
    file.write_bytes(packed(content))
    return file


# Splits


def test_a_file_is_cut_once_and_nothing_is_lost(book: Path) -> None:
    assert parts(TextCorpus(path=str(book), val_fraction=0.3)) == {"train": BOOK[:70], "val": BOOK[70:]}


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("val_bytes", range(1, 8))
def test_the_cut_is_never_inside_a_character(tmp_path: Path, packed: str, val_bytes: int) -> None:
    content = "aé€🚀".encode()
    file = tmp_path / f"accents.txt{packed}"
    compress = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(packed, bytes)
    file.write_bytes(compress(content))
    found = parts(TextCorpus(path=str(file), val_fraction=(val_bytes + 0.5) / len(content)))
    assert found["train"] + found["val"] == content.decode()
    assert found["val"] == {1: "🚀", 2: "🚀", 3: "🚀", 4: "€🚀", 5: "€🚀", 6: "€🚀", 7: "é€🚀"}[val_bytes]


@pytest.mark.parametrize(("content", "fraction"), [("a", 0.1), ("abc", 0.999)])
def test_a_text_that_leaves_a_part_empty_is_too_short(tmp_path: Path, content: str, fraction: float) -> None:
    file = tmp_path / "short.txt"
    file.write_text(content)
    with pytest.raises(UserError, match=rf"short\.txt has {len(content)} bytes; with val_fraction={fraction}"):
        documents(TextCorpus(path=str(file), val_fraction=fraction))


def test_every_tenth_of_many_files_validates(tmp_path: Path) -> None:
    for n in range(25):
        (tmp_path / f"{n:02d}.txt").write_text(f"number {n}")
    found = documents(TextCorpus(path=str(tmp_path)))
    assert [text for text, _ in found] == [f"number {n}" for n in range(25)]
    assert [text for text, split in found if split == "val"] == ["number 9", "number 19"]


def test_of_few_files_the_last_tenth_of_each_validates(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name * 20)
    assert parts(TextCorpus(path=str(tmp_path))) == {"train": "a" * 18 + "b" * 18 + "c" * 18, "val": "aabbcc"}


def test_only_the_second_part_of_a_cut_file_ends_a_document(book: Path) -> None:
    segments = read_all(TextCorpus(path=str(book)))
    assert segments == [Segment(BOOK[:90], "train", ends_document=False), Segment(BOOK[90:], "val")]


def test_a_path_of_its_own_validates_whole(tmp_path: Path, book: Path) -> None:
    rows = write_rows(tmp_path / "more.jsonl", ["one", "two"])
    found = documents(TextCorpus(path=str(book), val_path=str(rows)))
    assert found == [(BOOK, "train"), ("one", "val"), ("two", "val")]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.7, 0.99])
def test_the_share_that_validates_is_spread_evenly(fraction: float) -> None:
    places = [place for place in range(1000) if split_of(place, fraction) == "val"]
    assert len(places) == round(1000 * fraction)
    assert split_of(0, fraction) == "train"
    gaps = {after - before for before, after in itertools.pairwise(places)}
    assert max(gaps) - min(gaps) <= 1


def test_tinyshakespeare_splits_as_nanogpt_publishes(shared_data: Path) -> None:
    """nanoGPT's data/shakespeare_char states 1,003,854 and 111,540 characters."""
    found = parts(TextCorpus(path=str(shared_data / "tinyshakespeare" / "input.txt")))
    assert {split: len(text) for split, text in found.items()} == {"train": 1_003_854, "val": 111_540}


# Limits


def test_a_limit_takes_the_first_files(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text(name * 10)
    found = documents(TextCorpus(path=str(tmp_path), val_path=str(tmp_path), limit=2))
    assert found == [(name * 10, split) for split in ("train", "val") for name in "ab"]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".ndjson.zst"])
def test_a_limit_takes_the_first_rows(tmp_path: Path, ending: str) -> None:
    for name in ("b", "a"):
        write_rows(tmp_path / f"{name}{ending}", [f"{name}{n}" for n in range(20)])
    found = documents(TextCorpus(path=str(tmp_path), limit=23))
    assert [text for text, _ in found] == [f"a{n}" for n in range(20)] + [f"b{n}" for n in range(3)]


def test_a_limited_corpus_begins_like_the_whole(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [f"row {n}" for n in range(50)])
    corpus = TextCorpus(path=str(file))
    assert documents(replace(corpus, limit=31)) == documents(corpus)[:31]


# Rows


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson"])
def test_rows_are_documents(tmp_path: Path, ending: str) -> None:
    texts = ["plain", "two\nlines", 'quoted " and \\', "", "é日🚀", "\r\n end"]
    found = documents(TextCorpus(path=str(write_rows(tmp_path / f"rows{ending}", texts))))
    assert [text for text, _ in found] == [*texts[:5], "\n end"]


def test_the_field_is_chosen(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "no", "body": "yes"}\n')
    assert documents(TextCorpus(path=str(file), field="body")) == [("yes", "train")]


def test_a_mark_and_blank_lines_and_the_line_ends_of_windows_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}\n\n{"text": "c"}')
    assert [text for text, _ in documents(TextCorpus(path=str(file)))] == ["a", "b", "c"]
    assert [text for text, _ in documents(TextCorpus(path=str(file), limit=2))] == ["a", "b"]


@settings(derandomize=True, deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=20), min_size=1, max_size=25), st.integers(1, 200), st.integers(1, 100), st.booleans())
@pytest.mark.slow
def test_wherever_rows_are_cut_each_is_read_once(
    tmp_path: Path, texts: list[str], piece: int, block: int, ends_in_line_feed: bool
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", texts)
    if not ends_in_line_feed:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_SMALLEST_PIECE", piece)
        patch.setattr(text_files, "_BLOCK", block)
        found = documents(TextCorpus(path=str(file)))
    assert found == [(t.replace("\r\n", "\n"), split_of(n, 0.1)) for n, t in enumerate(texts)]


def test_rows_are_numbered_by_file_whatever_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.jsonl"
    lines = ['{"text": "fine"}'] * 40
    bad = {3: "{", 17: '{"txt": "a"}', 30: "[1]", 31: '{"text": 5}', 39: '{"text": "' + "[" * 9}
    file.write_text("\n".join(bad.get(n, line) for n, line in enumerate(lines)))
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 50)
    corpus = TextCorpus(path=str(file))
    assert len(corpus.pieces(whole_documents=False)) > 8
    rows = [row for row in read_all(corpus) if isinstance(row, BadRow)]
    assert [row.where for row in rows] == [f"{file}, row {n + 1}" for n in bad]
    reasons = ["no JSON", "no field 'text'; it has txt", "a list and not an object", "is a number and not", "no JSON"]
    assert all(reason in row.reason for reason, row in zip(reasons, rows, strict=True))


# Pieces


def _segments(corpus: TextCorpus) -> list[str]:
    return [segment.text for segment in read_all(corpus) if isinstance(segment, Segment) and segment.split == "train"]


LIKE_PROSE = st.text(
    st.sampled_from("  \n\n\t\r\v\x1c\x85\u00a0\u2003\u2028\u3000'slvt1½é日あ🚀_.\ufeff\u200b"), min_size=1, max_size=60
)


@settings(
    derandomize=True, deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(LIKE_PROSE.map(lambda t: f"a{t}"), st.integers(1, 40), st.integers(1, 9))
@example("a\u3000 b\u00a0\n c\u2003 \x85\n日 \n🚀 \n\r\n \r\n 'll", 1, 1)
def test_wherever_a_text_is_cut_its_ids_stay_the_same(
    tmp_path: Path, trained: BPETokenizer, content: str, piece: int, block: int
) -> None:
    file = tmp_path / "prose.txt"
    file.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_SMALLEST_PIECE", piece)
        patch.setattr(text_files, "_BLOCK", block)
        segments = _segments(TextCorpus(path=str(file), val_path=str(file)))
    whole = content.replace("\r\n", "\n")
    assert "".join(segments) == whole
    for tokenizer in (trained, GPT2Tokenizer()):
        cut = [token for segment in segments for token in tokenizer.encode(segment).tolist()]
        assert cut == tokenizer.encode(whole).tolist()


def test_a_text_is_cut_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the test above could pass with texts that are never cut."""
    file = tmp_path / "prose.txt"
    file.write_text("one two\nthree  four")
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 1)
    assert _segments(TextCorpus(path=str(file), val_path=str(file))) == ["one", " two", "\nthree", "  four"]


def test_pieces_are_about_256_of_equal_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 100)
    for n in range(500):
        (tmp_path / f"{n:03d}.txt").write_text("word " * (n % 120 + 1))
    (tmp_path / "long.txt").write_text("word " * 30_000)
    pieces = TextCorpus(path=str(tmp_path)).pieces(whole_documents=False)
    total = sum(piece.size for piece in pieces)
    assert 200 < len(pieces) <= 256
    assert max(piece.size for piece in pieces) < 3 * total / 256


def test_a_document_stays_whole_for_a_tokenizer_that_wants_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 10)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"{name} " * 50)
    corpus = TextCorpus(path=str(tmp_path), val_path=str(tmp_path))
    pieces: list[Any] = corpus.pieces(whole_documents=True)
    assert [len(piece.ranges) for piece in pieces] == [1] * 6
    assert len(corpus.pieces(whole_documents=False)) > 20
    assert read_all(corpus, whole=True) == [Segment(f"{name} " * 50, s) for s in SPLITS for name in "abc"]


def test_training_text_is_that_of_training(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [str(n) for n in range(20)])
    assert list(TextCorpus(path=str(file)).training_text()) == [str(n) for n in range(20) if n not in (9, 19)]


# Content


def test_marks_of_windows_are_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "windows.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert "".join(parts(TextCorpus(path=str(file))).values()) == "one\ntwo\rthree\n"


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n  "], ids=["no bytes", "white space"])
def test_a_text_without_text_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "void.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"void\.txt is empty"):
        documents(TextCorpus(path=str(file)))


def test_one_empty_file_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("text", encoding="utf-8")
    (tmp_path / "hollow.txt").write_bytes(b"\n\n\n")
    with pytest.raises(UserError, match=r"hollow\.txt is empty"):
        documents(TextCorpus(path=str(tmp_path)))


# Settings


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_val_fraction_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"val_fraction: {fraction} is out of range"):
        TextCorpus(path="any.txt", val_fraction=fraction)


def test_every_setting_that_is_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"val_fraction: 2 .*\nlimit: 0 .*\nshard: 7 is out of range, 0 to 6"):
        TextCorpus(path="any.txt", val_fraction=2, limit=0, shard=7, num_shards=7)
    with pytest.raises(ValueError, match="num_shards: 0 is out of range"):
        TextCorpus(path="any.txt", num_shards=0, shard=0)


# Fingerprints


def _library(folder: Path) -> Path:
    folder.mkdir()
    for name, content in (("a.txt", "first text"), ("b.txt", "second text")):
        (folder / name).write_text(content)
    return folder


def test_a_fingerprint_is_of_the_text_and_not_of_its_place(tmp_path: Path) -> None:
    corpus = TextCorpus(path=str(_library(tmp_path / "here")))
    print_ = corpus.fingerprint(tmp_path)
    shutil.copytree(tmp_path / "here", tmp_path / "elsewhere")
    same = [
        replace(corpus, path=str(tmp_path / "elsewhere")),
        replace(corpus, path=f"{tmp_path}/here/*.txt"),
        replace(corpus, shard=1, num_shards=3),
        replace(corpus, documents="separate"),
    ]
    assert {other.fingerprint(tmp_path / "cache") for other in same} == {print_}


def test_a_fingerprint_changes_with_content_names_order_and_settings(tmp_path: Path) -> None:
    folder = _library(tmp_path / "here")
    corpus = TextCorpus(path=str(folder))

    def of(other: TextCorpus) -> str:
        return other.fingerprint(tmp_path / "cache")

    prints = [of(corpus)]
    prints += [of(replace(corpus, val_fraction=0.2)), of(replace(corpus, limit=2)), of(replace(corpus, field="body"))]
    prints += [of(replace(corpus, errors="replace")), of(replace(corpus, val_path=str(folder)))]
    prints += [of(replace(corpus, path=str(folder / "a.txt"), val_path=str(folder / "b.txt")))]
    (folder / "b.txt").write_text("second texT")
    prints.append(of(corpus))
    (folder / "a.txt").rename(folder / "c.txt")
    prints.append(of(corpus))
    assert len(set(prints)) == len(prints)


def test_several_documents_have_boundaries(tmp_path: Path, book: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ["one"])
    assert not TextCorpus(path=str(book)).several_documents
    assert TextCorpus(path=str(rows)).several_documents
    assert TextCorpus(path=f"{tmp_path}/*").several_documents
