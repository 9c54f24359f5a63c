"""Files of text: found, decompressed, decoded, and refused where they are no text."""

from __future__ import annotations

import gzip
import os
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpt2_lightning.data.corpora import byte_streams, text_files
from gpt2_lightning.data.corpora.byte_streams import content_bytes
from gpt2_lightning.data.corpora.find_files import find, holds_rows, is_compressed
from gpt2_lightning.data.corpora.json_rows import text_of_row
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.text_files import character_start, divided, next_cut, read_lines, read_text
from gpt2_lightning.data.corpus import BadRow
from gpt2_lightning.errors import UserError

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, 1),
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}
compressed = pytest.mark.parametrize("ending", PACK)
NUMBERS = "".join(f"number {n * n}\n" for n in range(90_000)).encode()  # more than one read block


def read(file: Path, errors: text_files.Errors = "strict") -> str:
    return "".join(read_text(file, 0, None, errors))


# Finding


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["C.txt", "a.txt", "b.jsonl.zst", "b.txt.gz", "d.ndjson", "inside/e.txt"]
    (tmp_path / "inside").mkdir()
    for name in [*reversed(names), "notes.md", ".hidden.txt", "f.zst"]:
        (tmp_path / name).write_text("text", encoding="utf-8")
    assert [str(f.relative_to(tmp_path)) for f in find(str(tmp_path), "data.path")] == names


def test_a_pattern_finds_files_alone(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for name in ("b.txt", "a.txt", "folder.txt/c.txt", "d.md"):
        (tmp_path / name).write_text("text")
    assert [f.name for f in find(f"{tmp_path}/*.txt", "data.path")] == ["a.txt", "b.txt"]
    assert [f.name for f in find(f"{tmp_path}/**/[bc].txt", "data.path")] == ["b.txt", "c.txt"]


def test_a_file_of_any_name_may_be_named(tmp_path: Path) -> None:
    for name in ("wiki.train.raw", "what [is] this?.txt"):
        (tmp_path / name).write_text("text")
        assert find(str(tmp_path / name), "data.path") == [tmp_path / name]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.txt").write_text("text")
    assert find("~/mine.txt", "data.path") == find("~", "data.path") == find("~/*.txt", "data.path")


def test_embedded_text_is_found() -> None:
    assert len(find("embedded:scifi", "data.path")) >= 30


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.txt", r"there is no file or folder {}/nowhere\.txt"),
        ("no*.txt", r"no file fits the pattern {}/no\*\.txt"),
        ("empty", r"the folder empty holds no \.txt or \.jsonl files"),
        ("embedded:sci-fi", "there is no embedded:sci-fi in the package"),
        ("embedded:../../../../../../etc", "there is no embedded:.*etc in the package"),
        ("embedded:..", r"there is no embedded:\.\. in the package"),
        ("embedded:", "there is no embedded: in the package"),
        ("embedded:/etc", "there is no embedded:/etc in the package"),
        ("embedded:scifi/../../..", "there is no embedded:scifi"),
    ],
)
def test_what_is_not_there_is_named_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("text")
    with pytest.raises(UserError, match="data.val_path: " + message.format(re.escape(str(tmp_path)))):
        find(path, "data.val_path")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_no_file_since_it_can_be_read_once_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="there is no file or folder"):
        find(str(tmp_path / "pipe.txt"), "data.path")


def test_endings_say_what_is_inside() -> None:
    names = {"a.txt": (False, False), "a.jsonl": (True, False), "a.jsonl.gz": (True, True), "a.zst": (False, True)}
    names |= {"a.jsonl.txt": (False, False), "jsonl": (False, False), "a.ndjson.zst": (True, True)}
    assert {name: (holds_rows(Path(name)), is_compressed(Path(name))) for name in names} == names


# Compression


@compressed
def test_a_compressed_file_is_read_like_a_plain_one(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"numbers.txt{ending}"
    file.write_bytes(PACK[ending](NUMBERS))
    assert read(file).encode() == NUMBERS
    assert content_bytes(file) == len(NUMBERS)
    start, stop = len(NUMBERS) * 2 // 3, len(NUMBERS) - 5
    assert "".join(read_text(file, start, stop, "strict")).encode() == NUMBERS[start:stop]


@compressed
def test_several_compressed_parts_in_a_row_are_one_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"parts.txt{ending}"
    file.write_bytes(b"".join(PACK[ending](part) for part in (b"first ", NUMBERS, b"last")))
    assert read(file).encode() == b"first " + NUMBERS + b"last"


def test_the_window_of_a_zstandard_file_may_be_of_any_size(tmp_path: Path) -> None:
    """As `zstd --long=31` writes them; the library refuses more than 2**27 unless it is told otherwise."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=False)
    file = tmp_path / "long.zst"
    with file.open("wb") as packed, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(packed) as to:
        to.write(NUMBERS)
    assert read(file).encode() == NUMBERS


@compressed
@pytest.mark.parametrize("left", [0.01, 0.5, 0.999], ids=lambda left: f"{left:.1%} left")
def test_a_compressed_file_that_was_cut_off_is_not_taken_for_a_whole_one(
    tmp_path: Path, ending: str, left: float
) -> None:
    content = PACK[ending](NUMBERS)
    file = tmp_path / f"cut.txt{ending}"
    file.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(UserError, match=rf"cut\.txt\{ending} cannot be read: .*; copy or download it again"):
        read(file)


@compressed
def test_a_damaged_compressed_file_is_named(tmp_path: Path, ending: str) -> None:
    content = bytearray(PACK[ending](NUMBERS))
    content[len(content) // 2 : len(content) // 2 + 50] = b"\xff" * 50
    file = tmp_path / f"bad.txt{ending}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.txt\{ending} "):
        read(file)


@compressed
def test_a_plain_file_with_a_wrong_ending_is_named(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"plain.txt{ending}"
    file.write_text("just text, not compressed")
    with pytest.raises(UserError, match=rf"plain\.txt\{ending} cannot be read"):
        read(file)


@compressed
def test_a_file_that_expands_beyond_the_ratio_is_refused_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """256 MiB of one letter; a smaller limit than the usual one is reached sooner."""
    monkeypatch.setattr(byte_streams, "_ALWAYS_READ", 2**23)
    content = b"a" * 2**28
    file = tmp_path / f"bomb.txt{ending}"
    file.write_bytes(PACK[ending](content))
    message = rf"bomb\.txt\{ending} has more than [\d,]+ bytes when decompressed, over 100 times its size"
    tracemalloc.start()
    try:
        for consume in (lambda: content_bytes(file, 100), lambda: list(read_lines(file, 0, None, 100))):
            with pytest.raises(UserError, match=message):
                consume()
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_the_ratio_of_a_corpus_may_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_streams, "_ALWAYS_READ", 2**10)
    file = tmp_path / "words.txt.zst"
    file.write_bytes(PACK[".zst"](b"word " * 10**6))
    corpus = TextCorpus(path=str(file))
    with pytest.raises(UserError, match=r"raise data\.max_ratio"):
        corpus.pieces(whole_documents=False)
    raised = replace(corpus, max_ratio=10**5)
    assert sum(len(s.text) for piece in raised.pieces(False) for s in raised.read(piece)) == 5 * 10**6  # type: ignore[arg-type, union-attr]  # a piece of this corpus without bad rows
    assert raised.fingerprint(tmp_path) == corpus.fingerprint(tmp_path), "a limit changes no text"


# Decoding


@pytest.mark.parametrize(
    ("content", "byte", "offset"),
    [
        ("naïve café".encode("latin-1"), "0xef", 2),
        ("naïve ".encode() + "café".encode("latin-1"), "0xe9", 10),
        ("cut €".encode()[:-1], "0xe2", 4),
        (b"\xef\xbb\xbfmarked \xff", "0xff", 10),
    ],
    ids=["latin-1", "half latin-1", "cut inside a character", "after a mark"],
)
@pytest.mark.parametrize("before", [0, 3 * 2**20 + 7], ids=["near", "far"])
def test_what_is_not_utf8_is_refused_with_byte_and_offset(
    tmp_path: Path, content: bytes, byte: str, offset: int, before: int
) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"wort " * (before // 5) + b"." * (before % 5) + content)
    assert content[offset] == int(byte, 16)
    message = rf"latin\.txt is not UTF-8: byte {byte} at byte offset {before + offset} .*errors=replace"
    with pytest.raises(UserError, match=message):
        read(file)


def test_the_offset_counts_from_the_start_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"some words and \xe9")
    with pytest.raises(UserError, match="at byte offset 15 "):
        list(read_text(file, 5, None, "strict"))


@pytest.mark.parametrize("before", [1, 3 * 2**20], ids=["near", "far"])
def test_a_binary_file_is_refused_with_the_offset(tmp_path: Path, before: int) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"e" * before + b"\0\0\1")
    with pytest.raises(UserError, match=f"program is binary: there is a zero byte at byte offset {before};"):
        read(file)


def test_bytes_that_are_no_text_may_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9 \0 ok \xe2\x82")
    assert read(file, "replace") == "caf\ufffd \ufffd ok \ufffd"


@settings(
    derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from(" \n\ra日é🚀\ufeff"), max_size=40), st.integers(3, 9))
def test_read_blocks_leave_no_trace(tmp_path: Path, content: str, block: int) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK", block)
        assert read(file) == content.removeprefix("\ufeff").replace("\r\n", "\n")
        assert list(read_lines(file, 0, None)) == content.encode().removesuffix(b"\n").split(b"\n") or not content


def test_a_text_is_read_in_bounded_parts(tmp_path: Path) -> None:
    file = tmp_path / "numbers.txt"
    file.write_bytes(NUMBERS * 3)
    parts = list(read_text(file, 0, None, "strict"))
    assert "".join(parts).encode() == NUMBERS * 3
    assert len(parts) > 4
    assert max(map(len, parts)) < 3 * 2**20


def test_a_text_without_spaces_is_refused_when_it_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_LONGEST_UNCUT", 2**21)
    file = tmp_path / "solid.txt"
    file.write_bytes(b"x" * 2**21)
    assert len(read(file)) == 2**21
    file.write_bytes(b"x" * (2**21 + 1))
    with pytest.raises(UserError, match=r"solid\.txt has 2,097,153 characters without a space"):
        read(file)


def test_a_text_without_spaces_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The characters that are searched for a place to cut grow with the text, and not with its square."""
    searched = 0

    class Counted:
        def search(self, window: str) -> None:
            nonlocal searched
            searched += len(window)

    monkeypatch.setattr(text_files, "_CUT", Counted())
    file = tmp_path / "solid.txt"
    file.write_bytes(b"x" * 2**24)
    assert len(read(file)) == 2**24
    assert searched < 2**25


@pytest.mark.parametrize("spaces", [0, 1, 2])
def test_a_long_row_is_divided_where_no_token_changes(monkeypatch: pytest.MonkeyPatch, spaces: int) -> None:
    monkeypatch.setattr(text_files, "_BLOCK", 10)
    content = ("word" + " " * spaces) * 20
    chunks = list(divided(content))
    assert "".join(chunks) == content
    assert len(chunks) == (1 if spaces == 0 else pytest.approx(len(content) / 12, abs=2))


def test_a_line_is_refused_when_it_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON file that is one array, under the name of a .jsonl file."""
    monkeypatch.setattr(text_files, "_LONGEST_UNCUT", 2**21)
    file = tmp_path / "array.jsonl"
    file.write_bytes(b"short\n" + b"[" * 2**22)
    lines = read_lines(file, 0, None)
    assert next(lines) == b"short"
    with pytest.raises(UserError, match=r"array\.jsonl has a line of more than 2,097,152 bytes"):
        next(lines)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: No such file or directory"):
        read(tmp_path / "gone.txt")


# Cutting


@settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(
        st.sampled_from("   \n\n\t\r\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u205f\u3000aZ.é½日、🚀\ufeff"), max_size=40
    ),
    st.integers(1, 12),
)
@example("日\u3000 本 \u00a0\n a\u2003 b\x85 c", 1)
def test_cuts_stand_before_a_space_after_what_is_none(tmp_path: Path, content: str, block: int) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content.encode())
    size = file.stat().st_size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK", block + 3)
        cuts = [next_cut(file, offset, size) for offset in range(size + 1)]
    assert cuts == sorted(cuts)
    for cut in {*cuts} - {size}:
        before, after = content.encode()[:cut].decode(), content.encode()[cut:].decode()
        assert after[0] in " \n"
        assert before
        assert not before[-1].isspace()
        assert cuts[cut] == cut


@pytest.mark.parametrize("before", ["a", "Z", "!", "~", "日", "、", "語"])
def test_words_of_every_kind_can_be_cut(tmp_path: Path, before: str) -> None:
    file = tmp_path / "text.txt"
    file.write_text(f"{before * 5} {before}", encoding="utf-8")
    assert next_cut(file, 0, file.stat().st_size) == 5 * len(before.encode())


def test_a_cut_beyond_the_stop_is_the_stop(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("longword here")
    assert [next_cut(file, 2, stop) for stop in (5, 8, 13)] == [5, 8, 8]


@settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("aé日🚀"), min_size=1, max_size=9))
def test_a_character_starts_where_it_starts(tmp_path: Path, content: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content.encode())
    expected = [start for i, c in enumerate(content) for start in [len(content[:i].encode())] * len(c.encode())]
    assert [character_start(file, offset) for offset in range(len(expected))] == expected


# Rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON: "),
        (b"[" * 100_000, "JSON nested too deep"),
        (b'"text"', "a text and not an object with fields"),
        (b"{}", "no field 'text'; it has none"),
        (b'{"txt": "a", "n": 1}', "no field 'text'; it has txt, n"),
        (b'{"text": null}', "the field 'text' is null and not text"),
        (b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9 at byte 13 of the row"),
    ],
    ids=["cut off", "deep", "no object", "no fields", "other fields", "no text", "latin-1"],
)
def test_a_row_that_is_no_document_says_why(line: bytes, reason: str) -> None:
    row = text_of_row(line, "text", "strict", "a.jsonl, row 3")
    assert isinstance(row, BadRow)
    assert row.where == "a.jsonl, row 3"
    assert row.reason.startswith(reason)


def test_bytes_of_a_row_may_be_replaced() -> None:
    assert text_of_row(b'{"text": "caf\xe9"}', "text", "replace", "") == "caf\ufffd"


def test_a_row_may_hold_what_no_file_could() -> None:
    assert text_of_row(rb'{"text": "\ud83d \u0000"}', "text", "strict", "") == "\ud83d \0"


def test_a_row_that_is_nested_too_deep_is_named() -> None:
    row = text_of_row(b'{"text": ' + b"[" * 100_000, "text", "strict", "a.jsonl, row 3")
    assert isinstance(row, BadRow)
    assert (row.where, row.reason) == ("a.jsonl, row 3", "JSON nested too deep")
