"""End-to-end speed of `prepare` with GPT-2's tokenizer, relative to the batch encoding of tiktoken on the same text.

    python -m benchmarks.prepare TEXT.TXT

TEXT.TXT is any text of some megabytes, such as WikiText-2's training split; it is repeated to 256 MB in 64 documents.
The time of `prepare` includes starting a process, reading and splitting the files, encoding with one process per core,
and writing and opening shards with checksums. tiktoken encodes texts from memory with the same number of threads, and
saves nothing.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import report

_DOCUMENTS, _BYTES = 64, 256_000_000
_TURNS = 3


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m benchmarks.prepare TEXT.TXT")
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    size = _BYTES // _DOCUMENTS
    while len(text) < size:
        text += text
    offsets = range(0, len(text) - size + 1, max(1, (len(text) - size) // _DOCUMENTS or 1))
    documents = [text[offset : offset + size] for offset in offsets][:_DOCUMENTS]
    documents = [documents[i % len(documents)] for i in range(_DOCUMENTS)]
    with tempfile.TemporaryDirectory() as folder:
        books = Path(folder) / "books"
        books.mkdir()
        for i, document in enumerate(documents):
            (books / f"{i:03d}.txt").write_text(document, encoding="utf-8")
        turns = [(_theirs(documents), _ours(books, Path(folder))) for _ in range(_TURNS)]
    megabytes = sum(len(d.encode()) for d in documents) / 1e6
    ratio = statistics.median(theirs / ours for theirs, ours in turns)
    for name, i in (("tiktoken", 0), ("prepare", 1)):
        print(f"{name}: {megabytes / statistics.median(turn[i] for turn in turns):.2f} MB/s")
    report("prepare", {"speed of prepare over tiktoken's encode_ordinary_batch": round(ratio, 3)})


def _theirs(documents: list[str]) -> float:
    import tiktoken

    from gpt2_lightning.tokenizers.byte_level import SPLIT_PATTERN
    from gpt2_lightning.tokenizers.gpt2 import MERGES, read_ranks

    ranks = read_ranks(MERGES)
    encoding = tiktoken.Encoding(name="gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})
    encoding.encode_ordinary("warm")
    started = time.perf_counter()
    encoding.encode_ordinary_batch(documents, num_threads=os.cpu_count() or 1)
    return time.perf_counter() - started


def _ours(books: Path, folder: Path) -> float:
    output = folder / "shards"
    places = [f"data.path={books}", f"output={output}", f"cache_dir={folder / 'cache'}"]
    command = [sys.executable, "-m", "gpt2_lightning", "prepare", "data=text", "tokenizer=gpt2", *places]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    shutil.rmtree(output)
    return seconds


if __name__ == "__main__":
    main()
