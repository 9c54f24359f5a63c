"""The verb `prepare`."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from gpt2_lightning.data.corpora import text
from tests.outcomes import Outcome

Run = Callable[..., Outcome]

PROSE = "The keeper of the lamp goes over the old sea and back.\n"


@pytest.fixture
def book(workplace: Path) -> Path:
    file = workplace / "book.txt"
    file.write_text(PROSE * 200)
    return file


def fault(outcome: Outcome) -> str:
    """The message of a user's mistake."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: "), outcome
    assert "Traceback" not in outcome.err
    return outcome.err


def meta_of(folder: Path) -> dict[str, dict[str, int]]:
    return json.loads((folder / "meta.json").read_text())


# What it does


def test_shards_go_where_output_says_and_a_report_is_given(run_verb: Run, book: Path) -> None:
    outcome = run_verb("prepare", "data=text", f"data.path={book}", "output=shards")
    assert outcome.code == 0, outcome
    meta = meta_of(Path("shards"))
    assert "shards: ready\n" in outcome.out
    for name, split in (("training", "train"), ("validation", "val")):
        part = meta[split]
        documents = "documents: 1" if name == "validation" else "the beginning of one document"
        line = f"  {name:10}  {part['tokens']:,} tokens, {documents}, shards: 1"
        assert line in outcome.out
    assert meta["tokenizer"]["kind"] == "gpt2"


def test_a_second_run_says_that_it_was_ready(run_verb: Run, book: Path) -> None:
    command = ["prepare", "data=text", f"data.path={book}", "output=shards"]
    run_verb(*command)
    before = {file: file.stat().st_mtime_ns for file in Path("shards").rglob("*")}
    outcome = run_verb(*command)
    assert outcome.code == 0
    assert "shards: was ready\n" in outcome.out
    assert {file: file.stat().st_mtime_ns for file in Path("shards").rglob("*")} == before


def test_without_output_the_shards_go_to_the_cache(run_verb: Run, book: Path) -> None:
    command = ["prepare", "data=text", f"data.path={book}", "cache_dir=cache"]
    assert run_verb(*command).code == 0
    assert run_verb(*command, "data.limit=1").code == 0
    assert run_verb(*command, "tokenizer=char").code == 0
    assert len(list(Path("cache/tokens").glob("*/meta.json"))) == 3


def test_embedded_stories_are_prepared(run_verb: Run) -> None:
    outcome = run_verb("prepare", "output=shards", "tokenizer=char")
    assert outcome.code == 0, outcome
    meta = meta_of(Path("shards"))
    assert (meta["train"]["documents"], meta["val"]["documents"]) == (36, 4)


def test_training_reads_what_was_prepared(run_verb: Run, book: Path) -> None:
    assert run_verb("prepare", "data=text", f"data.path={book}", "output=shards", "tokenizer=char").code == 0
    tiny = ["model=tiny", "batch_size=2", "trainer=cpu", "trainer.max_steps=1", "callbacks.samples=null"]
    where = ["data=tokens", "data.path=shards", "tokenizer=saved", "tokenizer.path=shards"]
    outcome = run_verb("train", *where, *tiny)
    assert outcome.code == 0, outcome
    other = run_verb("train", "data=tokens", "data.path=shards", "tokenizer=gpt2", *tiny)
    assert re.search(r"made by another tokenizer \(char, hash \w{12}\) than the one chosen \(gpt2, hash", fault(other))


def test_shares_of_a_sweep_make_the_whole(run_verb: Run, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 1000)
    assert run_verb("prepare", "data=text", f"data.path={book}", "output=whole").code == 0
    shares = ["data.shard=range(0,3)", "data.num_shards=3"]
    outcome = run_verb("prepare", "-m", "data=text", f"data.path={book}", "output=shares", *shares)
    assert outcome.code == 0, outcome
    assert outcome.out.count("this share is done; ") == 2
    whole, parts = (
        {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        for folder in (Path("whole"), Path("shares"))
    )
    assert len(whole) > 10
    assert parts == whole


def test_other_settings_into_the_same_folder_are_refused(run_verb: Run, book: Path) -> None:
    command = ["prepare", "data=text", f"data.path={book}", "output=shards"]
    run_verb(*command)
    message = fault(run_verb(*command, "data.val_fraction=0.2", "tokenizer=char"))
    assert "corpus.val_fraction: 0.1 there, 0.2 now" in message
    assert "tokenizer.kind: gpt2 there, char now" in message
    assert "name another folder with output=, or delete this one" in message


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.feild=body"], "data.feild: unknown key; did you mean data.field?"),
        (["worker=2"], "worker: unknown key; did you mean workers?"),
        (["workers=0"], "workers: 0 is out of range, 1 or more is allowed"),
        (["workers=many"], "workers: 'many' does not fit"),
        (["data.shard=3", "data.num_shards=3"], "data.shard: 3 is out of range, 0 to 2 is allowed"),
        (["data.limit=0", "data.val_fraction=1"], "data.limit: 0 is out of range"),
        (["data.errors=ignore"], "data.errors: 'ignore' does not fit; it must be 'strict' or 'replace'"),
        (["data=txet"], "data: there is no option 'txet'; did you mean text?"),
        (["data=text"], "data.path: missing; add data.path=VALUE"),
    ],
)
def test_settings_are_checked_before_any_work(run_verb: Run, settings: list[str], message: str) -> None:
    assert message in fault(run_verb("prepare", *settings))
    assert not list(Path().iterdir())


def test_token_files_need_no_preparation(run_verb: Run) -> None:
    message = fault(run_verb("prepare", "data=tokens", "data.path=train.bin"))
    assert "data=tokens names token files, and there is nothing to prepare" in message


def test_an_output_that_is_a_file_or_holds_other_things_is_refused(run_verb: Run, book: Path) -> None:
    command = ["prepare", "data=text", f"data.path={book}"]
    assert "book.txt cannot be written" in fault(run_verb(*command, f"output={book}"))
    assert "holds other things than token shards" in fault(run_verb(*command, "output=."))
    assert [file.name for file in Path().iterdir()] == ["book.txt"]
    assert book.read_text() == PROSE * 200


# Text that cannot be used


LONG = b"A line of words.\n" * 100_000  # more than a block that is read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, r"data\.path: there is no file or folder .*/missing\.txt; check the path"),
        ("void.txt", b"", r"void\.txt is empty"),
        ("blank.txt", b"\n \n" * 50, r"blank\.txt is empty"),
        ("program", b"\x7fELF\0\0" * 50, r"program is binary: there is a zero byte at byte offset 4;"),
        ("latin.txt", b"caf\xe9 au lait " * 9, r"latin\.txt is not UTF-8: byte 0xe9 at byte offset 3 "),
        ("far.txt", LONG + b"caf\xe9" + LONG, rf"far\.txt is not UTF-8: byte 0xe9 at byte offset {len(LONG) + 3} "),
        ("cut.txt.gz", gzip.compress(LONG, 1)[:-9], r"cut\.txt\.gz cannot be read: .*; copy or download it again"),
        ("cut.txt.zst", zstandard.compress(LONG)[:-9], r"cut\.txt\.zst cannot be read: it ends in the middle; copy"),
        ("bad.txt.gz", b"no gzip at all", r"bad\.txt\.gz cannot be read: Not a gzipped file"),
        ("bad.txt.zst", b"no zstd at all", r"bad\.txt\.zst cannot be read: "),
        ("tiny.txt", b"a", r"tiny\.txt has 1 bytes; .* its training or its validation part is empty; use a longer"),
        ("few.jsonl", b'{"text": "a"}\n' * 5, "validation part is empty: the corpus has 5 documents"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(run_verb: Run, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    found = fault(run_verb("prepare", "data=text", f"data.path={name}", "output=shards"))
    assert re.search(message, found), found
    assert not Path("shards/meta.json").exists()


def test_bytes_that_are_no_utf8_are_replaced_on_demand(run_verb: Run) -> None:
    Path("latin.txt").write_bytes(b"caf\xe9 " * 100)
    command = ["prepare", "data=text", "data.path=latin.txt", "output=shards", "tokenizer=char"]
    assert "data.errors=replace" in fault(run_verb(*command))
    assert run_verb(*command, "data.errors=replace").code == 0
    assert "\\ufffd" in Path("shards/gpt2_lightning_tokenizer.json").read_text()


def test_bad_rows_are_counted_and_the_first_ten_shown(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 200)
    lines = [json.dumps({"text": f"row {n}"} if n % 5 else {"txt": f"row {n}"}) for n in range(100)]
    Path("rows.jsonl").write_text("\n".join(lines))
    message = fault(run_verb("prepare", "data=text", "data.path=rows.jsonl", "output=shards"))
    assert "20 rows are no documents" in message
    assert re.findall(r"rows\.jsonl, row (\d+): no field 'text'; it has txt", message) == [
        str(n + 1) for n in range(0, 50, 5)
    ]
    assert "and 10 more" in message


# Stopping


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes have no groups here")
@pytest.mark.parametrize("moment", ["starting", "working"])
@pytest.mark.slow
def test_ctrl_c_ends_in_good_order_and_the_next_run_goes_on(run_verb: Run, workplace: Path, moment: str) -> None:
    """Ctrl-C reaches all processes of a terminal, the workers among them."""
    Path("long.txt").write_text(PROSE * 80_000)
    arguments = ["prepare", "data=text", "data.path=long.txt", "output=shards", "workers=2"]
    program = subprocess.Popen(
        [sys.executable, "-m", "gpt2_lightning", *arguments],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    sign = "settings.json" if moment == "starting" else "pieces/0*.json"
    limit = time.monotonic() + 30
    while not list(Path("shards").glob(sign)):
        assert time.monotonic() < limit
        time.sleep(0.005)
    if moment == "starting":
        time.sleep(0.3)  # workers import their modules now
    os.killpg(program.pid, signal.SIGINT)
    said, errors = program.communicate(timeout=20)
    assert (program.returncode, errors) == (130, "")
    assert "and the same command goes on: shards" in said
    done = {file: file.stat().st_mtime_ns for file in Path("shards").glob("pieces/*.json")}
    assert not Path("shards/meta.json").exists()
    assert not list(Path("shards").rglob("*.tmp"))
    if moment == "working":
        outcome = run_verb(*arguments)
        assert outcome.code == 0, outcome
        assert {file: file.stat().st_mtime_ns for file in done} == done
