import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.shards import sequence as sequence_module
from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.errors import UserError
from tests.data.token_sequences import sequence_of

IDS = np.random.default_rng(0).integers(0, 60_000, size=211)
CUTS = (3, 3, 4, 101, 199)
"""One file is empty, and one holds a single id."""


@pytest.fixture(params=["<u2", "<u4"])
def sequence(request: pytest.FixtureRequest, tmp_path: Path) -> TokenSequence:
    return sequence_of(tmp_path, IDS, CUTS, request.param)


@pytest.mark.parametrize("length", [1, 2, 7, 110, 211])
def test_windows_are_those_of_one_long_array(sequence: TokenSequence, length: int) -> None:
    """Every window, also those that begin, end or lie across borders of files."""
    starts = np.arange(len(IDS) - length + 1)
    found = sequence.read(starts, length)
    assert found.dtype == np.int64
    assert np.array_equal(found, np.lib.stride_tricks.sliding_window_view(IDS, length))


def test_windows_come_in_the_order_asked_for(sequence: TokenSequence) -> None:
    starts = np.array([200, 0, 98, 98, 3])
    assert np.array_equal(sequence.read(starts, 11), np.stack([IDS[s : s + 11] for s in starts]))


def test_slices_are_those_of_an_array(sequence: TokenSequence) -> None:
    assert len(sequence) == 211
    for start, stop in ((0, 211), (0, 0), (3, 3), (2, 5), (100, 102), (210, 211)):
        assert np.array_equal(sequence.slice(start, stop), IDS[start:stop])


def test_ids_beyond_uint16_survive(tmp_path: Path) -> None:
    ids = np.arange(2**32 - 20, 2**32)
    assert np.array_equal(sequence_of(tmp_path, ids, [7], "<u4").slice(0, 20), ids)


def test_ids_are_little_endian_and_begin_after_the_header(tmp_path: Path) -> None:
    file = tmp_path / "with_header.bin"
    file.write_bytes(b"\xff\xff\xff" + bytes([1, 0, 0, 1, 2, 1]))
    assert TokenSequence([(file, 3, 3)], np.dtype("<u2")).slice(0, 3).tolist() == [1, 256, 258]
    assert TokenSequence([(file, 5, 1)], np.dtype("<u4")).slice(0, 1).tolist() == [256 * (1 + 256 * (2 + 256))]


def test_only_the_ids_that_belong_to_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "longer.bin"
    file.write_bytes(np.arange(10, dtype="<u2").tobytes())
    parts = TokenSequence([(file, 0, 3), (file, 14, 2), (file, 6, 1)], np.dtype("<u2"))
    assert parts.slice(0, 6).tolist() == [0, 1, 2, 7, 8, 3]


def test_systems_that_cannot_read_at_a_place_seek_first(
    sequence: TokenSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv")
    assert np.array_equal(sequence.slice(1, 208), IDS[1:208])


def test_more_files_than_a_process_may_open(tmp_path: Path) -> None:
    ids = np.arange(400)
    many = sequence_of(tmp_path, ids, range(2, 400, 2))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 80, before[1]))  # noqa: PTH208
    try:
        for _ in range(2):
            assert np.array_equal(many.read(np.arange(397), 3)[:, 2], ids[2:399])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(many._open) == sequence_module._MOST_OPEN


def test_a_pickled_sequence_opens_its_files_anew(sequence: TokenSequence) -> None:
    sequence.slice(0, 211)
    copy = pickle.loads(pickle.dumps(sequence))
    assert sequence._open
    assert not copy._open
    assert np.array_equal(copy.slice(0, 211), IDS)


def test_a_file_that_became_shorter_is_named(sequence: TokenSequence) -> None:
    file = sequence.files[3][0]
    os.truncate(file, 20)
    sequence.slice(0, 5)
    with pytest.raises(UserError, match=f"token file {file} became shorter"):
        sequence.slice(90, 100)


def test_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    """Pages of a memory map would count: 64 MB of them are touched here."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory of a process is read from /proc")
    file = tmp_path / "sparse.bin"
    with file.open("wb") as content:
        content.truncate(2**27)
    sequence = TokenSequence([(file, 0, 2**26)], np.dtype("<u2"))
    starts = np.arange(0, 2**26 - 2048, 4096)
    sequence.read(starts[:16], 2048)

    def resident() -> int:
        return int(statm.read_text().split()[1]) * resource.getpagesize()

    before = resident()
    for some in np.split(starts, 1024):
        sequence.read(some, 2048)
    assert resident() - before < 4e6
    mapped = np.memmap(file, dtype="<u2", mode="r")
    assert int(mapped[::2048].sum()) == 0
    assert resident() - before > 6e7, "a map does grow"
