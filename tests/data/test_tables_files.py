"""The same rows from every format, and each fault with its file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.tables import LabeledText, LabeledTexts
from gpt2_lightning.data.tables.files import Columns, read_file
from gpt2_lightning.data.tables.records import BadRows
from gpt2_lightning.errors import UserError

ROWS = [
    {"text": 'She said "no, thanks"', "label": "quote"},
    {"text": "two\nlines", "label": "lines"},
    {"text": "a\ttab and a , comma", "label": "quote"},
    {"text": "Ünïcödé 🚀", "label": "lines"},
    {"text": "   spaces stay  ", "label": "quote"},
]


def write_separated(file: Path, delimiter: str, line_end: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, ["text", "label"], delimiter=delimiter, lineterminator=line_end)
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(file: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file, row_group_size=2)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.json": lambda file: file.write_text(json.dumps(ROWS), encoding="utf-8"),
    "marked.json": lambda file: file.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8-sig"),
    "rows.jsonl": lambda file: file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8"),
    "windows.jsonl": lambda file: file.write_bytes(
        b"\r\n\r\n".join(json.dumps(row).encode() for row in ROWS) + b"\r\n"
    ),
    "rows.csv": lambda file: write_separated(file, ",", "\n"),
    "windows.CSV": lambda file: write_separated(file, ",", "\r\n"),
    "rows.tsv": lambda file: write_separated(file, "\t", "\n"),
    "rows.parquet": write_parquet,
}


def read_all(file: Path, **settings: Any) -> list[LabeledText]:
    splits = LabeledTexts(path=str(file), val=0.2, test=0.0, **settings).read()
    return sorted(splits.train + splits.val, key=lambda row: row.text)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    expected = sorted((LabeledText(**row) for row in ROWS), key=lambda row: row.text)
    assert read_all(tmp_path / name) == expected


def records(file: Path, kind: Any, columns: Columns | None = None) -> tuple[list[tuple[str, dict[str, Any]]], BadRows]:
    bad = BadRows()
    found = list(read_file(file, kind, columns or Columns(",", '"', None), bad))
    return [(record.place.removeprefix(f"{file}, "), record.values) for record in found], bad


def test_a_row_of_several_lines_stands_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n1,"two\nlines"\n\n3,4\n', encoding="utf-8")
    found, bad = records(tmp_path / "a.csv", "csv")
    assert found == [("line 2", {"x": "1", "y": "two\nlines"}), ("line 5", {"x": "3", "y": "4"})]
    assert bad.count == 0


def test_without_quoting_every_line_is_a_row_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b'ham\tsay "hi\r\nspam\t"win" \x1a\r\n')
    found, bad = records(tmp_path / "a.tsv", "tsv", Columns("\t", None, ["label", "text"]))
    assert [values for _, values in found] == [
        {"label": "ham", "text": 'say "hi'},
        {"label": "spam", "text": '"win" \x1a'},
    ]
    assert bad.count == 0


def test_the_delimiter_and_the_quote_are_settings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("'a;b';x\nc;'it''s'\n", encoding="utf-8")
    found, _ = records(tmp_path / "a.csv", "csv", Columns(";", "'", ["text", "label"]))
    assert [values for _, values in found] == [{"text": "a;b", "label": "x"}, {"text": "c", "label": "it's"}]


def test_a_document_may_be_longer_than_the_default_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000 + "\n", encoding="utf-8")
    found, _ = records(tmp_path / "a.csv", "csv")
    assert len(found[0][1]["text"]) == 200_000


FAULTY: dict[str, tuple[bytes, int, list[str]]] = {
    "a.jsonl": (
        b'{"text": "a"}\n{"text": \n[1]\n"x"\n7\n{"text": "b"}\n',
        2,
        ["line 2: is no JSON", "line 3: is a list", "line 4: is text", "line 5: is a number"],
    ),
    "latin.jsonl": (
        b'\xef\xbb\xbf{"text": "a"}\n{"text": "caf\xe9!"}\n',
        1,
        ["line 2: is not UTF-8: byte 0xe9 at byte offset 30"],
    ),
    "a.json": (
        b'[{"text": "a"}, null, 3, {"text": "b"}, true]',
        2,
        ["row 2: is null", "row 3: is a number", "row 5: is a truth value"],
    ),
    "a.csv": (
        b"text,label\na,b\na\na,b,c\nd,e\n",
        2,
        ["line 3: has 1 columns, and must have 2: 'text', 'label'", "line 4: has 3 columns"],
    ),
    "latin.csv": (
        b'text,label\n"two\nl\xefnes",b\nc,d\n',
        1,
        ["line 2: is not UTF-8: byte 0xef at byte offset 17"],
    ),
    "quotes.csv": (
        b'text,label\n"a"b,c\nd,e\n"f,g\nh,i\nj,k',
        1,
        ["line 2: cannot be read: ',' expected after", "line 4: cannot be read, up to line 6: unexpected end"],
    ),
}
"""By file name, the content, how many of its rows are good, and what is said of the others."""


@pytest.mark.parametrize("name", FAULTY)
def test_each_broken_row_is_noted_with_its_line_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    content, n_good, expected = FAULTY[name]
    (tmp_path / name).write_bytes(content)
    found, bad = records(tmp_path / name, name.rpartition(".")[2])
    assert len(found) == n_good
    assert bad.count == len(expected)
    for line, reason in zip(bad.first, expected, strict=True):
        assert line.startswith(f"{tmp_path / name}, {reason}")


UNREADABLE = {
    "no list": ("a.json", b'{"text": "a"}', "holds an object, and must hold a list of objects; .* data.format=jsonl"),
    "lines in json": ("a.json", b'{"a": 1}\n{"a": 2}', r"is no JSON: Extra data: line 2 column 1 .* data.format=jsonl"),
    "endless nesting": ("a.json", b"[" * 200_000, "is no JSON"),
    "not UTF-8": ("a.json", b'\xef\xbb\xbf[{"text": "caf\xe9"}]', "byte 0xe9 at byte offset 17"),
    "nothing": ("a.csv", b"", "a.csv is empty"),
    "header alone": ("a.csv", b"text,label\n", "a.csv holds no rows"),
    "blank lines": ("a.jsonl", b"\n\n", "a.jsonl holds no rows"),
    "empty list": ("a.json", b"[]", "a.json holds no rows"),
    "columns of one name": ("a.csv", b"text,text\na,b\n", "line 1: several columns are called 'text'"),
    "UTF-16": ("a.csv", "text,label\n".encode("utf-16"), "line 1: .* byte 0xff at byte offset 0"),
    "no parquet": ("a.parquet", b"PAR1 and no more", "cannot be read as parquet"),
    "no format": ("rows", b"x", "does not tell its format; set data.format to one of json, jsonl, csv, tsv, parquet"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, case: str) -> None:
    name, content, message = UNREADABLE[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        LabeledTexts(path=str(tmp_path / name)).read()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file or folder .*gone\.csv"):
        LabeledTexts(path=str(tmp_path / "gone.csv")).read()


def test_rows_of_any_columns_can_be_read(shared_data: Path) -> None:
    found, bad = records(shared_data / "hellaswag" / "hellaswag_val_1000.jsonl", "jsonl")
    assert len(found) == 1000
    assert bad.count == 0
    assert {"ctx", "endings", "label"} <= set(found[0][1])
    assert all(len(values["endings"]) == 4 for _, values in found)
