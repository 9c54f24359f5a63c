from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import BenchmarkSource
from gpt2_lightning.evaluation.benchmarks.source import read_rows

LINES = b'{"text": "a b"}\n{"text": "c d"}\n'
ADDRESS = "https://example.org/words.jsonl"


def source(**settings: object) -> BenchmarkSource:
    given = {"folder": "words", "file": "words*.jsonl", "address": ADDRESS, **settings}
    return BenchmarkSource(**given)  # type: ignore[arg-type]  # settings of several types


def write(folder: Path, content: bytes = LINES, name: str = "words.jsonl") -> Path:
    file = folder / "words" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


def test_rows_of_the_published_file_need_no_note(tmp_path: Path) -> None:
    write(tmp_path)
    digest = hashlib.sha256(LINES).hexdigest()
    read = source(sha256=digest, rows=2).read(tmp_path)
    assert [record.values for record in read.records] == [{"text": "a b"}, {"text": "c d"}]
    assert (read.location, read.digest, read.notes) == ("words/words.jsonl", digest, ())


def test_another_file_is_read_and_noted_with_rows_and_beginnings_of_digests(tmp_path: Path) -> None:
    write(tmp_path)
    (note,) = source(sha256="0" * 64, rows=3).read(tmp_path).notes
    for stated in ("2 rows", hashlib.sha256(LINES).hexdigest()[:16], "3 rows", "0" * 16, ADDRESS):
        assert stated in note


def test_fewer_rows_are_noted_where_no_digest_is_known(tmp_path: Path) -> None:
    write(tmp_path)
    assert source(rows=2).read(tmp_path).notes == ()
    assert "has 3 rows" in source(rows=3).read(tmp_path).notes[0]


def test_a_text_file_is_one_row(tmp_path: Path) -> None:
    write(tmp_path, "é\n\n b".encode(), "words.raw")
    (record,) = source(file="words.raw").read(tmp_path).records
    assert record.values == {"text": "é\n\n b"}


def test_other_files_of_the_folder_are_named_if_the_file_is_absent(tmp_path: Path) -> None:
    write(tmp_path, name="wiki.valid.raw")
    with pytest.raises(UserError, match=r"words\*\.jsonl \(the folder has 'wiki\.valid\.raw'\); download"):
        source().read(tmp_path)


def test_an_absent_file_is_named_with_its_address_and_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"no file {tmp_path}/words/words\*\.jsonl; download {ADDRESS} \(2 rows\) into"
    ):
        source(rows=2).read(tmp_path)
    with pytest.raises(UserError, match=f"download {ADDRESS} into FOLDER/words and set data_dir=FOLDER"):
        source().read(None)


def test_several_files_of_a_pattern_are_listed(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="words2.jsonl")
    with pytest.raises(UserError, match=r"'words\.jsonl', 'words2\.jsonl'"):
        source().read(tmp_path)


@pytest.mark.slow
def test_the_split_of_a_data_set_is_read(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path, name="validation.jsonl")
    write(tmp_path, b'{"text": "e"}\n', name="test.jsonl")
    read = source(hub=str(tmp_path / "words"), split="validation").read(None)
    assert [record.values["text"] for record in read.records] == ["a b", "c d"]
    other = source(hub=str(tmp_path / "words"), split="test").read(None)
    assert read.digest != other.digest
    with pytest.raises(UserError, match="no split train"):
        source(hub=str(tmp_path / "words"), split="train").read(None)


def test_without_a_network_the_file_and_its_folder_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=f"^hf:a/words cannot be fetched: no route.*download {ADDRESS} into FOLDER"):
        source(hub="a/words", revision="0" * 40).read(None)


def test_a_data_set_needs_a_commit() -> None:
    with pytest.raises(UserError, match=r"set source\.revision=COMMIT"):
        source(hub="a/words").read(None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "a.jsonl, line 2: is no JSON"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n", "has no rows"),
        ("a.json", b'{"text": 1}', r"rename it to end in \.jsonl"),
        ("a.rows", b"1", "rename it to end in one of json, jsonl"),
        ("a.txt", b"a\xff", "not UTF-8: byte offset 1"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_rows(tmp_path / name)
    assert "data." not in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.txt"):
        with pytest.raises(UserError, match=name):
            read_rows(tmp_path / name)
