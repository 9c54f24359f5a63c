"""Files of item records: nothing that is cut off counts as done, and what continues ends with the same bytes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.results import item_log
from gpt2_lightning.evaluation.results.item_log import Header, ItemRecord, open_log, partial_path, read_log

HEADER = Header("hellaswag", {"limit": 4, "normalize": {"by": "bytes"}}, "data", "weights", "tokenizer", "float32")
CHUNKS: list[list[ItemRecord]] = [
    [{"id": "0", "log_likelihoods": [-0.1, -1 / 3]}, {"id": "1", "text": "ö\n\ud800"}],
    [{"id": "2", "right": True}, {"id": "3", "nested": {"a": None}}],
]
RECORDS = [record for chunk in CHUNKS for record in chunk]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items" / "hellaswag.jsonl"


def evaluate(path: Path, header: Header = HEADER, stop_after: int | None = None) -> list[ItemRecord]:
    """Append the chunks that are missing; raise KeyboardInterrupt after `stop_after` of them, if given."""
    with open_log(path, header, len(RECORDS)) as log:
        for number, chunk in enumerate(CHUNKS[len(log.records) // 2 :]):
            if number == stop_after:
                raise KeyboardInterrupt
            log.append(chunk)
        return log.finish()


def interrupt(path: Path, stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(path, stop_after=stop_after)


@pytest.fixture
def expected(path: Path) -> Iterator[bytes]:
    """Content of the finished file of an evaluation that was not interrupted."""
    elsewhere = path.parent.parent / "elsewhere.jsonl"
    assert evaluate(elsewhere) == RECORDS
    yield elsewhere.read_bytes()
    elsewhere.unlink()
    assert list(path.parent.iterdir()) == [path]


def test_finished_file_has_a_header_and_a_line_for_each_item(path: Path) -> None:
    evaluate(path)
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(header) == {"format": 1, **dataclasses.asdict(HEADER)}
    assert [json.loads(line) for line in lines] == RECORDS
    assert "ö" in lines[1]
    assert read_log(path) == (HEADER, RECORDS)


def test_interruption_at_every_byte_continues_to_the_same_bytes(path: Path, expected: bytes) -> None:
    partial = partial_path(path)
    path.parent.mkdir()
    with open_log(path, HEADER, len(RECORDS)) as log:
        for chunk in CHUNKS:
            log.append(chunk)
        content = partial.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 3
    for size in range(len(content) + 1):
        path.unlink(missing_ok=True)
        partial.write_bytes(content[:size])
        with open_log(path, HEADER, len(RECORDS)) as log:
            assert len(log.records) == 2 * sum(end <= size for end in ends[1:])
        evaluate(path)
        assert path.read_bytes() == expected


def test_evaluation_interrupted_twice_ends_with_the_same_bytes(path: Path, expected: bytes) -> None:
    interrupt(path, 0)
    assert not path.parent.exists()
    interrupt(path, 1)
    assert not path.exists()
    evaluate(path)
    assert path.read_bytes() == expected


def test_nothing_is_left_behind_without_records(tmp_path: Path) -> None:
    interrupt(tmp_path / "output" / "items" / "hellaswag.jsonl", stop_after=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("garbage", [b"\0" * 40 + b"\n", b'[{"no": "id"}]\n', b'[{"id": NaN}]\n', b"\xff\n", b"[7]\n"])
def test_lines_after_a_damaged_one_are_dropped(path: Path, expected: bytes, garbage: bytes) -> None:
    interrupt(path, 1)
    with partial_path(path).open("ab") as file:
        file.write(garbage + json.dumps([{"id": "4"}]).encode() + b"\n")
    evaluate(path)
    assert path.read_bytes() == expected


def test_finished_evaluation_is_not_repeated(path: Path) -> None:
    evaluate(path)
    partial_path(path).write_text("killed before it was removed")
    with open_log(path, HEADER, len(RECORDS)) as log:
        assert log.records == log.finish() == RECORDS
    assert list(path.parent.iterdir()) == [path]


def test_finished_file_with_fewer_items_is_evaluated_again(path: Path, expected: bytes) -> None:
    evaluate(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    evaluate(path)
    assert path.read_bytes() == expected


def test_finished_file_of_other_weights_is_replaced_at_the_end(path: Path) -> None:
    evaluate(path)
    before, other = path.read_bytes(), dataclasses.replace(HEADER, weights="other")
    with open_log(path, other, len(RECORDS)) as log:
        assert log.records == []
        log.append(RECORDS)
        assert path.read_bytes() == before
        log.finish()
    assert read_log(path) == (other, RECORDS)


def test_interrupted_evaluation_with_another_header_is_refused(path: Path) -> None:
    interrupt(path, 1)
    before = partial_path(path).read_bytes()
    other = dataclasses.replace(HEADER, settings={"limit": 5, "new": (1, 2)}, weights="others")
    with pytest.raises(UserError, match="is of an interrupted evaluation that differs; repeat it") as error:
        evaluate(path, other)
    assert str(error.value).splitlines()[1:] == [
        "  settings.limit: 4 there, 5 now",
        "  settings.normalize.by: 'bytes' there, nothing now",
        "  weights: 'weights' there, 'others' now",
        "  settings.new: nothing there, [1, 2] now",
    ]
    assert partial_path(path).read_bytes() == before


def test_settings_that_json_cannot_distinguish_are_equal(path: Path) -> None:
    given = dataclasses.replace(HEADER, settings={"names": ("a", "b")})
    evaluate(path, given)
    with open_log(path, given, len(RECORDS)) as log:
        assert log.records == RECORDS


def test_later_format_is_refused(path: Path) -> None:
    interrupt(path, 1)
    partial = partial_path(path)
    partial.write_text(partial.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="has format 2, this version reads up to 1"):
        evaluate(path)


def test_full_disk_keeps_earlier_chunks(path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = item_log._write, []

    def failing(file: BinaryIO, content: bytes) -> None:
        calls.append(content)
        if len(calls) == 3:
            file.write(content[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, content)

    monkeypatch.setattr(item_log, "_write", failing)
    with pytest.raises(UserError, match=r"No space left on device.*2 items done"):
        evaluate(path)
    assert partial_path(path).read_bytes().endswith(b"\n")
    evaluate(path)
    assert path.read_bytes() == expected


@pytest.mark.skipif(os.name != "posix", reason="other systems are not locked")
def test_second_process_is_refused(path: Path) -> None:
    with open_log(path, HEADER, len(RECORDS)) as log:
        log.append(CHUNKS[0])
        with pytest.raises(UserError, match="is being written by another process"):
            evaluate(path)


def test_folder_that_is_a_file_is_refused(path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        evaluate(path)


def test_unfinished_and_damaged_files_are_not_read(path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*hellaswag\.jsonl; evaluate"):
        read_log(path)
    interrupt(path, 1)
    with pytest.raises(UserError, match="and its evaluation was interrupted"):
        read_log(path)
    evaluate(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="is damaged after 3 items"):
        read_log(path)
