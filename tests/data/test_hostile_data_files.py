"""Devices, pipes, and lines, fields and files of any size are refused before they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.shards.digests import digest
from gpt2_lightning.data.shards.format import HEADER_BYTES, MAGIC, read_header
from gpt2_lightning.data.tables import files, lines
from gpt2_lightning.data.tables.files import Columns, read_file
from gpt2_lightning.data.tables.records import BadRows
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("ab")


def rows(file: Path, kind: files.Format, bad: BadRows | None = None) -> list[object]:
    return [record.values for record in read_file(file, kind, Columns(",", '"', None), bad or BadRows())]


READERS: dict[str, Callable[[Path, Path], object]] = {
    "json": lambda file, cache: rows(file, "json"),
    "jsonl": lambda file, cache: rows(file, "jsonl"),
    "csv": lambda file, cache: rows(file, "csv"),
    "parquet": lambda file, cache: rows(file, "parquet"),
    "token ids": lambda file, cache: TokenFiles(path=str(file)).open(TOKENIZER, cache),
    "shard": lambda file, cache: read_header(file),
    "text": lambda file, cache: TextCorpus(path=str(file)).fingerprint(cache),
    "digest": lambda file, cache: digest(file, cache),
}


@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.parametrize("reader", READERS)
def test_a_device_or_pipe_is_refused(tmp_path: Path, reader: str, kind: str) -> None:
    file = Path("/dev/zero") if kind == "device" else tmp_path / "pipe.bin"
    if kind == "pipe":
        os.mkfifo(file)
    with pytest.raises(UserError, match=r"is a device, pipe or socket|there is no file or folder"):
        READERS[reader](file, tmp_path)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_long_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: files.Format) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    (tmp_path / "a").write_text("\n" + "x" * 101)
    with pytest.raises(UserError, match="line 2 has more than 100 bytes"):
        rows(tmp_path / "a", kind)


def test_a_sparse_file_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="line 1 has more than 67,108,864 bytes"):
        rows(tmp_path / "a", "jsonl")
    with pytest.raises(UserError, match="has 1,099,511,627,776 bytes, and a JSON file"):
        rows(tmp_path / "a", "json")


def test_a_field_that_is_never_closed_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1000)
    (tmp_path / "a.csv").write_text('text\ngood\n"' + "never closed\n" * 100)
    bad = BadRows()
    rows(tmp_path / "a.csv", "csv", bad)
    assert "line 3: cannot be read, up to line" in bad.first[0]
    assert "field larger than field limit (1000)" in bad.first[0]


@pytest.mark.parametrize("content", ["[]", "7", "{}", '{"identity": 7}', "[" * 10_000])
def test_a_damaged_cache_of_digests_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "large").write_bytes(bytes(2**24))
    expected = digest(tmp_path / "large", tmp_path / "cache")
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_text(content)
    assert digest(tmp_path / "large", tmp_path / "cache") == expected


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(MAGIC.ljust(HEADER_BYTES - 1, b"\0"))
    with pytest.raises(UserError, match="is no token shard"):
        read_header(tmp_path / "a")
