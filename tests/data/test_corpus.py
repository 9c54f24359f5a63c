from pathlib import Path

import pytest

from gpt2_lightning.data.corpus import Splits, TextCorpus
from gpt2_lightning.errors import UserError


@pytest.fixture
def book(tmp_path: Path) -> Path:
    file = tmp_path / "book.txt"
    file.write_text("abcdefghij" * 10, encoding="utf-8")
    return file


def test_a_file_is_cut_once_and_nothing_is_lost(book: Path) -> None:
    splits = TextCorpus(str(book), val_fraction=0.3).read()
    assert splits.train == "abcdefghij" * 7
    assert splits.val == "abcdefghij" * 3


def test_the_cut_counts_characters_and_not_bytes(tmp_path: Path) -> None:
    file = tmp_path / "accents.txt"
    file.write_text("é" * 50 + "a" * 50, encoding="utf-8")
    splits = TextCorpus(str(file), val_fraction=0.5).read()
    assert splits == Splits(train="é" * 50, val="a" * 50)


@pytest.mark.parametrize(("fraction", "validating"), [(0.01, 1), (0.1, 10), (0.25, 25), (0.5, 50), (0.99, 99)])
def test_the_share_of_validation_is_rounded_up(book: Path, fraction: float, validating: int) -> None:
    assert len(TextCorpus(str(book), val_fraction=fraction).read().val) == validating


@pytest.mark.parametrize(("text", "fraction"), [("a", 0.1), ("abc", 0.999)])
def test_a_text_that_leaves_a_part_empty_is_too_short(tmp_path: Path, text: str, fraction: float) -> None:
    file = tmp_path / "short.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"short\.txt has {len(text)} characters; with val_fraction={fraction}"):
        TextCorpus(str(file), val_fraction=fraction).read()


def test_marks_of_windows_are_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "windows.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    splits = TextCorpus(str(file)).read()
    assert splits.train + splits.val == "one\ntwo\rthree\n"


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, text in (("b.txt", "second"), ("a.txt", "first"), ("C.txt", "upper"), ("d.md", "no text")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    splits = TextCorpus(str(tmp_path)).read()
    assert splits.train + splits.val == "upper\n\nfirst\n\nsecond"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.txt").write_text("0123456789", encoding="utf-8")
    assert TextCorpus("~/mine.txt").read() == Splits(train="012345678", val="9")


def test_a_missing_path_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        TextCorpus("nowhere.txt").read()
    assert "data.path" in str(caught.value)
    assert str(tmp_path / "nowhere.txt") in str(caught.value)


def test_an_unknown_embedded_corpus_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="embedded:sci-fi"):
        TextCorpus("embedded:sci-fi").read()


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n  "], ids=["no bytes", "white space"])
def test_a_text_without_text_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "void.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"void\.txt is empty"):
        TextCorpus(str(file)).read()


def test_one_empty_file_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("text", encoding="utf-8")
    (tmp_path / "hollow.txt").write_bytes(b"\n")
    with pytest.raises(UserError, match=r"hollow\.txt is empty"):
        TextCorpus(str(tmp_path)).read()


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("text", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no \.txt files"):
        TextCorpus(str(tmp_path)).read()


@pytest.mark.parametrize(
    ("content", "byte", "offset"),
    [
        ("naïve café".encode("latin-1"), "0xef", 2),
        ("naïve ".encode() + "café".encode("latin-1"), "0xe9", 10),
        ("cut €".encode()[:-1], "0xe2", 4),
    ],
    ids=["latin-1", "half latin-1", "cut inside a character"],
)
def test_what_is_not_utf8_is_refused_with_byte_and_offset(
    tmp_path: Path, content: bytes, byte: str, offset: int
) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(content)
    assert content[offset] == int(byte, 16)
    with pytest.raises(UserError, match=rf"latin\.txt is not UTF-8: byte {byte} at byte offset {offset} "):
        TextCorpus(str(file)).read()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_val_fraction_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"val_fraction: {fraction} is out of range"):
        TextCorpus("any.txt", val_fraction=fraction)


def test_fingerprints_tell_texts_and_cuts_apart() -> None:
    splits = [Splits("ab", "c"), Splits("a", "bc"), Splits("abc", ""), Splits("ab", "d"), Splits("é", "c")]
    assert len({s.fingerprint() for s in splits}) == len(splits)
    assert Splits("ab", "c").fingerprint() == Splits("ab", "c").fingerprint()


def test_tinyshakespeare_splits_as_nanogpt_publishes(shared_data: Path) -> None:
    """nanoGPT's data/shakespeare_char states 1,003,854 and 111,540 characters."""
    splits = TextCorpus(str(shared_data / "tinyshakespeare" / "input.txt")).read()
    assert (len(splits.train), len(splits.val)) == (1_003_854, 111_540)
