"""Folder of the shards of a corpus: its settings and its completion.

`settings.json` is written first, and describes corpus and tokenizer; `meta.json` is written last, and collects the
reports of all pieces.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_lightning.atomic import make_durable, write_text
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.shards.reports import (
    REPORTS,
    SPLITS,
    clear_up,
    count_done,
    is_whole,
    report_file,
    shard_name,
)
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import read_whole
from gpt2_lightning.tokenizers import Tokenizer
from gpt2_lightning.tokenizers.saved import FILE as TOKENIZER
from gpt2_lightning.tokenizers.saved import write_tokenizer

META = "meta.json"
SETTINGS = "settings.json"
FORMAT = 1
_SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d+\.bin")


def folder_of(corpus: Corpus, tokenizer: Tokenizer, cache_dir: Path) -> Path:
    """Return the default folder of the shards of a corpus and a tokenizer."""
    identity = f"{FORMAT} {corpus.fingerprint(cache_dir)} {tokenizer.hash()}"
    return cache_dir / "tokens" / hashlib.sha256(identity.encode()).hexdigest()[:24]


def claim(folder: Path, corpus: Corpus, tokenizer: Tokenizer, source: str) -> None:
    """Write `settings.json`, or compare an existing one with the settings.

    Raises:
        UserError: if the folder contains something else, or cannot be written.
    """
    wanted = {
        "format": FORMAT,
        "source": source,
        "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "hash": tokenizer.hash()},
        "corpus": {"kind": type(corpus).__name__, **corpus.settings()},
    }
    file = folder / SETTINGS
    try:
        # List before writing, since another machine may claim the folder at the same time.
        others = {f.name for f in folder.iterdir() if f.name[0] != "."} if folder.exists() else set()
        if TOKENIZER in others:  # the shards, too, are of a preparation, perhaps killed before its first report
            others = {name for name in others if not _SHARD_NAME.fullmatch(name)}
        others -= {TOKENIZER, SETTINGS, REPORTS}
        has_results = (folder / META).exists() or count_done(folder)
        if not file.exists() or not has_results:  # settings of a preparation that completed no piece are replaced
            if others:
                raise UserError(f"the folder {folder} holds other things than token shards; name another with output=")
            write_tokenizer(tokenizer, folder / TOKENIZER)
            write_text(file, json.dumps(wanted, indent=2) + "\n")
        found = json.loads(read_whole(file))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written: {error.strerror}; name another with output=") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is damaged; delete the folder, or name another with output=") from None
    if differing := list(_differences(found, json.loads(json.dumps(wanted)))):
        listed = "\n  ".join(differing)
        raise UserError(
            f"the folder {folder} holds shards made with other settings:\n  {listed}\n"
            "name another folder with output=, or delete this one"
        )


def is_ready(folder: Path, source: str) -> bool:
    """Whether `meta.json` exists and all pieces are complete."""
    try:
        pieces = int(json.loads(read_whole(folder / META))["pieces"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, UserError):
        return False
    return all(is_whole(folder, number, source) for number in range(pieces))


def finish(folder: Path, pieces: int, val_fraction: float) -> None:
    """Collect the reports in `meta.json`.

    Args:
        folder: folder of the shards, in which every piece is complete.
        pieces: number of pieces.
        val_fraction: validation share of the corpus, for the message.

    Raises:
        UserError: if the training or the validation part is empty.
    """
    reports = [json.loads(report_file(folder, n).read_text(encoding="utf-8")) for n in range(pieces)]
    parts = {
        split: {
            key: sum(report[split][key] for report in reports if split in report)
            for key in ("tokens", "documents", "text_bytes")
        }
        | {"shards": {report["piece"]: report[split]["checksum"] for report in reports if split in report}}
        for split in ("train", "val")
    }
    for split, name in (("train", "training"), ("val", "validation")):
        if not parts[split]["tokens"]:
            documents = parts["train"]["documents"] + parts["val"]["documents"]
            raise UserError(
                f"the {name} part is empty: the corpus has {documents:,} documents, and "
                f"val_fraction={val_fraction} leaves none for it; change data.val_fraction"
            )
    clear_up(folder)
    for shard in [shard_name(split, n) for split in SPLITS for n in parts[split]["shards"]]:
        make_durable(folder / shard)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    empty = sum(report["empty_documents"] for report in reports)
    meta = {**settings, "pieces": pieces, **parts, "empty_documents": empty}
    if unknown := sum((Counter(report.get("unknown", {})) for report in reports), Counter[str]()):
        meta["unknown"] = unknown
    write_text(folder / META, json.dumps(meta, indent=2) + "\n")


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            yield from _differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif found != wanted:
        yield f"{path}: {found} there, {wanted} now"
