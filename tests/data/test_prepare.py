"""Corpora as shards: the same bytes however they are made, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.data.corpora import text, text_files
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.shards import encode
from gpt2_lightning.data.shards.folder import META, folder_of
from gpt2_lightning.data.shards.format import HEADER_BYTES, read_header
from gpt2_lightning.data.shards.prepare import Prepared, prepare
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, HuggingFaceTokenizer, Tokenizer
from gpt2_lightning.tokenizers.bpe import from_corpus as bpe
from gpt2_lightning.tokenizers.char import from_corpus as char

WORDS = ["ship", "star's", "keeper", "lamp ", "日本", "é", "1984", "\n", "\n\n", "🚀", "  ", "sea", "\u3000", "\r\n"]
END = 50256


def prose(seed: int, words: int) -> str:
    chosen = np.random.default_rng(seed).choice(len(WORDS), words)
    return "Once " + " ".join(WORDS[i] for i in chosen)


@pytest.fixture
def library(tmp_path: Path) -> TextCorpus:
    """Texts, rows and compressed rows, in some twenty-five pieces."""
    folder = tmp_path / "library"
    (folder / "inside").mkdir(parents=True)
    for n in range(12):
        (folder / f"{n:02d}.txt").write_bytes(prose(n, 100 * n + 20).encode())
    rows = "".join(json.dumps({"text": prose(n, n)}) + "\n" for n in range(100))
    (folder / "inside" / "rows.jsonl").write_text(rows)
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(rows.encode()[: rows.index("\n", 3000)]))
    return TextCorpus(path=str(folder))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SMALLEST_PIECE", 2000)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Prepared]:
    def prepared(corpus: TextCorpus, name: str, tokenizer: Tokenizer | None = None, workers: int = 1) -> Prepared:
        return prepare(corpus, tokenizer or GPT2Tokenizer(), tmp_path / name, tmp_path / "cache", workers)

    return prepared


Make = Callable[..., Prepared]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def ids_of(folder: Path, split: str) -> list[int]:
    """The ids of a part, read without the package."""
    files = sorted(folder.glob(f"{split}-*.bin"))
    sizes = [np.dtype(f"<u{int.from_bytes(file.read_bytes()[12:16], 'little')}") for file in files]
    return [i for file, size in zip(files, sizes, strict=True) for i in np.fromfile(file, size, offset=256).tolist()]


def meta_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / META).read_text(encoding="utf-8"))


# The same bytes


def test_two_workers_make_what_one_makes(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    make(library, "one")
    make(library, "two", workers=2)
    assert len(list((tmp_path / "one" / "pieces").iterdir())) > 20
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_seven_shares_make_what_one_machine_makes(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    make(library, "whole")
    shares = [make(replace(library, shard=n, num_shards=7), "shared") for n in (3, 0, 6, 1, 2, 5, 4)]
    pieces = len(list((tmp_path / "whole" / "pieces").iterdir()))
    assert [share.missing for share in shares] == sorted((share.missing for share in shares), reverse=True)
    assert shares[0].missing == pieces - len(range(3, pieces, 7))
    assert shares[-1].missing == 0
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_seven_folders_copied_together_make_the_whole(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    make(library, "whole")
    for n in range(7):
        make(replace(library, shard=n, num_shards=7), f"share{n}")
        assert not (tmp_path / f"share{n}" / META).exists()
        shutil.copytree(tmp_path / f"share{n}", tmp_path / "together", dirs_exist_ok=True)
    assert make(library, "together").missing == 0
    assert contents(tmp_path / "together") == contents(tmp_path / "whole")


PROGRAM = """
import sys
from pathlib import Path
from gpt2_lightning.data.corpora import text
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer

text._SMALLEST_PIECE = int(sys.argv[5])
source, folder, cache, workers = sys.argv[1:5]
prepare(TextCorpus(path=source), GPT2Tokenizer(), Path(folder), Path(cache), int(workers))
"""


def started(source: Path, folder: Path, workers: int, piece: int = 2000) -> subprocess.Popen[str]:
    """`prepare` in a process of its own, with its children in its group."""
    arguments = [str(source), str(folder), str(folder.parent / "cache"), str(workers), str(piece)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        restore_signals=True,
    )


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.002)


def members(group: int) -> list[int]:
    """Processes of a group that are alive."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(status.parent.name))
    return found


def ended(process: subprocess.Popen[str]) -> str:
    """What a process wrote; it and its children must end."""
    try:
        wait_for(lambda: process.poll() is not None and not members(process.pid), seconds=10)
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
    return process.communicate()[1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_half_way_it_goes_on_and_makes_the_same(tmp_path: Path, make: Make, workers: int) -> None:
    source = tmp_path / "long.txt"
    source.write_bytes(prose(1, 30_000).encode())
    pieces = tmp_path / "killed" / "pieces"
    process = started(source, tmp_path / "killed", workers)
    wait_for(lambda: len(list(pieces.glob("*.json"))) > 5)
    process.kill()
    process.wait()
    ended(process)
    done = {file.name: file.stat().st_mtime_ns for file in pieces.glob("*.json")}
    whole = make(TextCorpus(path=str(source)), "whole")
    assert 5 < len(done) < meta_of(whole.folder)["pieces"], "not killed half-way"
    assert not (tmp_path / "killed" / META).exists()
    assert not make(TextCorpus(path=str(source)), "killed").was_ready
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert {name: (pieces / name).stat().st_mtime_ns for name in done} == done, "made twice"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_workers_of_a_killed_program_leave_nothing_half_written(tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_bytes(prose(1, 700_000).encode())
    process = started(source, tmp_path / "killed", workers=2, piece=10**6)
    wait_for(lambda: len(list((tmp_path / "killed").glob(".train-*.tmp"))) == 2)
    process.kill()
    process.wait()
    ended(process)
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def test_two_programs_at_once_do_not_disturb_each_other(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    programs = [started(Path(library.path), tmp_path / "both", workers=1) for _ in range(2)]
    errors = [program.communicate()[1] for program in programs]
    assert [program.returncode for program in programs] == [0, 0], errors
    make(library, "one")
    assert contents(tmp_path / "both") == contents(tmp_path / "one")


def test_a_second_run_does_nothing(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    def times() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}

    first = make(library, "out")
    before = times()
    assert make(library, "out") == Prepared(first.folder, missing=0, was_ready=True)
    assert times() == before
    assert not first.was_ready


# The right ids


def huggingface(texts: list[str]) -> HuggingFaceTokenizer:
    """One that puts a character before a text, so that a text in parts has other ids than the whole."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.Prepend("^")
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return HuggingFaceTokenizer(tokenizer.to_str(), "</s>")


@pytest.mark.parametrize(
    "trained",
    [
        lambda texts: GPT2Tokenizer(),
        lambda texts: bpe(texts, True, 400),
        lambda texts: char(texts, True),
        lambda texts: char(texts, False),
        huggingface,
    ],
    ids=["gpt2", "bpe", "char", "char without end", "huggingface"],
)
def test_ids_are_those_of_each_document_and_its_end(
    library: TextCorpus,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: Callable[[list[str]], Tokenizer],
) -> None:
    """Most documents are longer than a piece, and than a block that is read."""
    monkeypatch.setattr(text_files, "_BLOCK", 301)
    folder = Path(library.path)
    documents = [(folder / f"{n:02d}.txt").read_bytes().decode() for n in range(12)]
    rows = [json.loads(line)["text"] for line in (folder / "inside" / "rows.jsonl").read_text().splitlines()]
    packed = gzip.decompress((folder / "packed.jsonl.gz").read_bytes()).decode().splitlines()
    # In the order of names, and every tenth of the places validates: file by file, and row by row.
    placed = list(enumerate(documents))
    placed += [(12 + n, row) for n, row in enumerate(rows)]
    placed += [(13 + n, json.loads(line)["text"]) for n, line in enumerate(packed)]
    tokenizer = trained([document.replace("\r\n", "\n") for _, document in placed])
    out = make(library, "out", tokenizer).folder
    for split in ("train", "val"):
        own = [d.replace("\r\n", "\n") for place, d in placed if (place % 10 == 9) == (split == "val")]
        end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
        assert ids_of(out, split) == [i for document in own for i in [*tokenizer.encode(document).tolist(), *end]]
        counts = {"documents": len(own), "text_bytes": sum(len(d.encode()) for d in own)}
        assert meta_of(out)[split].items() >= {**counts, "tokens": len(ids_of(out, split))}.items()


@pytest.mark.parametrize("trained", [lambda texts: GPT2Tokenizer(), lambda texts: char(texts, True)])
def test_a_document_of_several_megabytes_is_one_document(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Callable[[list[str]], Tokenizer]
) -> None:
    monkeypatch.undo()  # pieces and blocks of their real size
    document = prose(5, 600_000).replace("\r\n", "\n")
    assert len(document) > 2 * text_files._BLOCK > text._SMALLEST_PIECE
    (tmp_path / "long.txt").write_text(document, encoding="utf-8")
    (tmp_path / "val.txt").write_text("Once", encoding="utf-8")
    tokenizer = trained([document])
    corpus = TextCorpus(path=str(tmp_path / "long.txt"), val_path=str(tmp_path / "val.txt"))
    out = make(corpus, "out", tokenizer).folder
    assert len(list(out.glob("train-*.bin"))) > 5
    assert ids_of(out, "train") == [*tokenizer.encode(document).tolist(), tokenizer.end_of_text]
    assert ids_of(out, "val") == [*tokenizer.encode("Once").tolist(), tokenizer.end_of_text]


def test_a_cut_file_has_one_end_of_text(make: Make, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("word " * 2000)
    out = make(TextCorpus(path=str(tmp_path / "book.txt")), "out").folder
    assert END not in ids_of(out, "train")
    assert ids_of(out, "val").count(END) == 1
    assert ids_of(out, "val")[-1] == END
    assert [meta_of(out)[split]["documents"] for split in ("train", "val")] == [0, 1]


def test_ids_above_65535_take_four_bytes(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "book.txt").write_text("ab" * 50)
    alphabet = "".join(chr(c) for c in range(70_000) if not 0xD800 <= c < 0xE000)
    out = make(TextCorpus(path=str(tmp_path / "book.txt")), "out", CharTokenizer(alphabet)).folder
    assert read_header(out / "train-00000.bin").itemsize == 4
    assert ids_of(out, "train") == [97, 98] * 45


def test_empty_documents_are_left_out_and_counted(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"text": "{"" if n % 3 == 0 else n}"}}\n' for n in range(20)))
    out = make(TextCorpus(path=str(file)), "out").folder
    assert meta_of(out)["empty_documents"] == 7
    assert [meta_of(out)[split]["documents"] for split in ("train", "val")] == [12, 1]
    assert GPT2Tokenizer().decode(ids_of(out, "train")[:4]) == "1<|endoftext|>2<|endoftext|>"


def test_what_utf8_cannot_hold_is_encoded_all_the_same(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "half \\ud83d and \\u0000"}\n' * 10)
    ids = ids_of(make(TextCorpus(path=str(file)), "out").folder, "val")
    assert GPT2Tokenizer().decode(ids) == "half \ufffd and \0<|endoftext|>"


def test_wikitext_2_has_as_many_tokens_as_is_known(
    shared_data: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    folder = shared_data / "wikitext-2-raw"
    corpus = TextCorpus(path=str(folder / "wiki.train.raw"), val_path=str(folder / "wiki.valid.raw"))
    meta = meta_of(make(corpus, "out").folder)
    tokens = {split: meta[split]["tokens"] - meta[split]["documents"] for split in ("train", "val")}
    assert tokens == {"train": 2_417_786, "val": 249_887}


def test_tinyshakespeare_has_the_tokens_that_nanogpt_publishes(shared_data: Path, make: Make) -> None:
    corpus = TextCorpus(path=str(shared_data / "tinyshakespeare" / "input.txt"))
    tokenizer = char(corpus.training_text(), corpus.several_documents)
    meta = meta_of(make(corpus, "out", tokenizer).folder)
    assert tokenizer.vocab_size == 65
    assert [meta[split]["tokens"] for split in ("train", "val")] == [1_003_854, 111_540]


# Other settings


def test_another_text_tokenizer_or_setting_has_another_folder(library: TextCorpus, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    tokenizers = [GPT2Tokenizer(), CharTokenizer("abc"), CharTokenizer("abcd")]
    folders = [folder_of(library, tokenizer, cache) for tokenizer in tokenizers]
    folders += [folder_of(replace(library, limit=3), tokenizers[0], cache)]
    (Path(library.path) / "00.txt").write_text("changed")
    folders += [folder_of(library, tokenizers[0], cache)]
    assert len(set(folders)) == len(folders)
    assert folder_of(replace(library, shard=0, num_shards=2), tokenizers[0], cache) == folders[-1]


def test_other_settings_into_the_same_folder_are_refused_by_name(
    library: TextCorpus, make: Make, tmp_path: Path
) -> None:
    make(library, "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match="holds shards made with other settings") as caught:
        make(replace(library, val_fraction=0.25, limit=5), "out", CharTokenizer("abc"))
    for difference in (
        "tokenizer.kind: gpt2 there, char now",
        "tokenizer.vocab_size: 50257 there, 3 now",
        "tokenizer.hash: ",
        "corpus.val_fraction: 0.1 there, 0.25 now",
        "corpus.limit: None there, 5 now",
        "source: ",
    ):
        assert f"\n  {difference}" in str(caught.value)
    assert "corpus.field" not in str(caught.value)
    assert contents(tmp_path / "out") == before


def test_a_changed_source_is_noticed(library: TextCorpus, make: Make) -> None:
    make(library, "out")
    (Path(library.path) / "03.txt").write_text("another text")
    with pytest.raises(UserError, match=r"other settings:\n  source: \w+ there, \w+ now\n"):
        make(library, "out")


def test_a_folder_with_other_things_is_left_alone(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match="holds other things than token shards; name another with output="):
        make(library, "out")
    assert list(contents(tmp_path / "out")) == ["thesis.doc"]


@pytest.mark.parametrize("lost", [(META,), (META, "settings.json")], ids=["reports", "reports and settings"])
def test_a_preparation_that_was_killed_before_its_first_report_is_resumed(
    library: TextCorpus, make: Make, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    make(library, "out")
    whole = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "pieces")
    for name in lost:
        (tmp_path / "out" / name).unlink()
    make(library, "out")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_folder_that_cannot_be_made_is_named(library: TextCorpus, make: Make, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=f"{place}.* cannot be written: (?!None)"):
        make(library, place)
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.parametrize("content", ["", "[", "[]", "{}"])
def test_damaged_settings_are_no_settings(library: TextCorpus, make: Make, tmp_path: Path, content: str) -> None:
    make(library, "out")
    (tmp_path / "out" / "settings.json").write_text(content)
    with pytest.raises(UserError, match=r"settings\.json is damaged|holds shards made with other settings"):
        make(library, "out")


# Damage


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "not finished"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "of another source", "empty"])
def test_a_damaged_shard_is_made_again(
    library: TextCorpus, make: Make, tmp_path: Path, damage: str, finished: bool
) -> None:
    out = make(library, "out").folder
    before = contents(out)
    shard = out / "train-00003.bin"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    elif damage == "of another source":
        other = make(replace(library, val_fraction=0.2), "other").folder
        shutil.copy(other / "train-00003.bin", shard)
        assert shard.read_bytes() != content
    else:
        shard.write_bytes(content[:-2] if damage == "cut off" else b"")
    if not finished:
        (out / META).unlink()
    assert not make(library, "out").was_ready
    assert contents(out) == before


@pytest.mark.parametrize("content", [None, "", '{"pieces": 3'])
def test_damaged_notes_are_made_again(library: TextCorpus, make: Make, content: str | None) -> None:
    out = make(library, "out").folder
    before = contents(out)
    for file in (out / META, out / "pieces" / "00002.json"):
        file.unlink() if content is None else file.write_text(content)
    make(library, "out")
    assert contents(out) == before


def test_what_was_left_half_written_is_cleared_up(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    make(library, "whole")
    out = make(replace(library, shard=0, num_shards=2), "out").folder
    for name in (".train-00001.bin.4711.tmp", "pieces/.00001.json.4711.tmp"):
        (out / name).write_bytes(b"half")
    make(replace(library, shard=0, num_shards=2), "out")
    assert (out / ".train-00001.bin.4711.tmp").exists(), "another machine may be writing it"
    make(library, "out")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.fixture
def file_size() -> Iterator[Callable[[int], None]]:
    """Lets files grow to a number of bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="the size of a file can be limited on POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda room: resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_and_what_is_whole_is_kept(
    make: Make, tmp_path: Path, file_size: Callable[[int], None], workers: int
) -> None:
    """The shards of the last file are larger than those of the others."""
    for n in range(11):
        (tmp_path / f"{n:02d}.txt").write_text(("éé" if n == 10 else "keeper ") * 2000)
    corpus = TextCorpus(path=f"{tmp_path}/*.txt")
    make(corpus, "whole")
    file_size(5000)
    with pytest.raises(UserError, match=r"cannot be written: .*: \d pieces need about 0\.0 MB; make room"):
        make(corpus, "out", workers=workers)
    file_size(-1)
    left = contents(tmp_path / "out")
    whole = contents(tmp_path / "whole")
    assert 3 < len(left) < len(whole)
    assert {name: whole[name] for name in left} == left
    make(corpus, "out")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("room", [0, 100])
def test_a_disk_that_was_full_from_the_start_is_told(
    library: TextCorpus, make: Make, tmp_path: Path, file_size: Callable[[int], None], room: int
) -> None:
    file_size(room)
    with pytest.raises(UserError, match=r"cannot be written: (?!None)"):
        make(library, "out")
    file_size(-1)
    assert not contents(tmp_path / "out")
    make(library, "out")


# Text that cannot be used


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_rows_are_counted_and_the_first_shown_in_order(make: Make, tmp_path: Path, workers: int) -> None:
    files = [tmp_path / f"{name}.jsonl" for name in "ab"]
    values: list[int | str] = [n if n % 100 > 95 else str(n) for n in range(2000)]
    for file in files:
        file.write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    corpus = TextCorpus(path=f"{tmp_path}/*.jsonl")
    with pytest.raises(UserError) as caught:
        make(corpus, "out", workers=workers)
    lines = str(caught.value).splitlines()
    assert lines[0] == "160 rows are no documents; mend them, leave them out or name another data.field:"
    first = [100 * n + 97 + i for n in range(3) for i in range(4)][:10]
    assert lines[1:-1] == [f"  {files[0]}, row {n}: the field 'text' is a number and not text" for n in first]
    assert lines[-1] == "  and 150 more"
    shards = len(list((tmp_path / "out").glob("train-*.bin")))
    for file in files:
        file.write_text("".join(f'{{"text": "{n}"}}\n' for n in range(2000)))
    assert shards == 0
    assert make(corpus, "mended").missing == 0


def test_text_outside_the_alphabet_is_told_and_leaves_no_shard(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("abc" * 30 + "X€")
    with pytest.raises(UserError, match=r"lacks 'X' \(U\+0058\) at character \d+, '€' \(U\+20AC\)"):
        make(TextCorpus(path=str(file)), "out", CharTokenizer("abc", "error"))
    assert not list((tmp_path / "out").glob("val-*"))


def test_a_corpus_without_validation_says_how_many_documents_it_has(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n' * 4)
    with pytest.raises(UserError, match=r"validation part .*empty.* 4 documents, .*val_fraction=0\.1"):
        make(TextCorpus(path=str(file)), "out")
    assert not (tmp_path / "out" / META).exists()


def test_a_document_that_must_be_whole_may_be_too_long(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_LONGEST_WHOLE", 5000)
    monkeypatch.setattr(text_files, "_BLOCK", 1000)
    for n in range(11):
        (tmp_path / f"{n:02d}.txt").write_text("word " * (1000 if n < 10 else 1001))
    tokenizer = huggingface(["word"])
    with pytest.raises(UserError, match="a document has more than 5,000 characters, and a huggingface tokenizer"):
        make(TextCorpus(path=f"{tmp_path}/*.txt"), "out", tokenizer)
    assert make(TextCorpus(path=f"{tmp_path}/*.txt", limit=10), "limited", tokenizer).missing == 0


def test_an_unreadable_source_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "book.txt"
    file.write_text("words " * 100)
    monkeypatch.setattr(TextCorpus, "files", lambda self: [tmp_path / "gone.txt"])
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: No such file"):
        make(TextCorpus(path=str(file)), "out")


# Reading what was prepared


def test_prepared_ids_open_as_sequences(library: TextCorpus, make: Make, tmp_path: Path) -> None:
    out = make(library, "out").folder
    tokens = open_prepared(out, GPT2Tokenizer(), tmp_path / "cache")
    assert tokens.train.slice(0, len(tokens.train)).tolist() == ids_of(out, "train")
    assert tokens.val.slice(0, len(tokens.val)).tolist() == ids_of(out, "val")
    meta = meta_of(out)
    assert tokens.bytes_per_token == {s: meta[s]["text_bytes"] / meta[s]["tokens"] for s in ("train", "val")}
    assert sum(f.stat().st_size - HEADER_BYTES for f in out.glob("*.bin")) == 2 * (len(tokens.train) + len(tokens.val))


def test_progress_tells_all_bytes_and_then_each_piece(library: TextCorpus, tmp_path: Path) -> None:
    told: list[int] = []

    def start(total: int) -> Callable[[int], None]:
        told.append(total)
        return told.append

    prepare(library, GPT2Tokenizer(), tmp_path / "out", tmp_path / "cache", 1, start)
    total, *steps = told
    assert len(steps) > 20
    assert sum(steps) == total == sum(f.stat().st_size for f in Path(library.path).rglob("*") if f.is_file())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_killed_worker_is_told(tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_bytes(prose(1, 30_000).encode())
    process = started(source, tmp_path / "out", workers=2)
    wait_for(lambda: list((tmp_path / "out" / "pieces").glob("*.json")))
    workers = [pid for pid in members(process.pid) if _is_worker(pid)]
    os.kill(workers[0], signal.SIGKILL)
    assert "UserError: a worker process was killed, perhaps for want of memory" in ended(process)


def _is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_folder_where_nothing_was_made_is_taken_over(tmp_path: Path) -> None:
    """The remedy of a message can be followed: the text is mended, or another setting chosen."""
    file = tmp_path / "late.txt"
    file.write_bytes(b"plain words " * 40 + b"caf\xe9")
    with pytest.raises(UserError, match="is not UTF-8"):
        prepare(TextCorpus(path=str(file)), GPT2Tokenizer(), tmp_path / "out", tmp_path / "cache")
    corpus = TextCorpus(path=str(file), errors="replace")
    assert not prepare(corpus, GPT2Tokenizer(), tmp_path / "out", tmp_path / "cache").missing
    with pytest.raises(UserError, match="made with other settings"):
        prepare(TextCorpus(path=str(file), limit=1), GPT2Tokenizer(), tmp_path / "out", tmp_path / "cache")
