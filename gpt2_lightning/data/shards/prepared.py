"""Prepared corpora: training and validation sequences of token ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2_lightning.data.shards.folder import FORMAT, META
from gpt2_lightning.data.shards.format import HEADER_BYTES, read_header, require_checksum
from gpt2_lightning.data.shards.reports import shard_name
from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import read_whole
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Tokens:
    """Training and validation sequence of a corpus."""

    train: TokenSequence
    val: TokenSequence
    bytes_per_token: dict[str, float]
    """Mean bytes of text per token, by part (`train` and `val`)."""


def open_prepared(folder: Path, tokenizer: Tokenizer, cache_dir: Path) -> Tokens:
    """Open the shards written by `prepare`, after verifying their checksums.

    Args:
        folder: folder of the shards, with a `meta.json`.
        tokenizer: the tokenizer that encoded the shards; `unknown_counts` then has the counts of their text.
        cache_dir: cache folder for the checksums of large shards, which are then verified once.

    Raises:
        UserError: if a shard is missing, truncated, altered or of another tokenizer.
    """
    try:
        meta = json.loads(read_whole(folder / META) if (folder / META).is_file() else "")
        _require_format(meta["format"], folder)
        shards = {split: {int(n): str(c) for n, c in meta[split]["shards"].items()} for split in ("train", "val")}
        ratios = {split: meta[split]["text_bytes"] / meta[split]["tokens"] for split in ("train", "val")}
        made_by, source = {key: str(meta["tokenizer"][key]) for key in ("kind", "hash")}, str(meta["source"])
        unknown = dict(meta.get("unknown", {}))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise UserError(f"the folder {folder} has no {META} that this version can read; prepare it again") from None
    if made_by["hash"] != tokenizer.hash():
        raise UserError(
            f"the shards in {folder} were made by another tokenizer ({made_by['kind']}, hash {made_by['hash'][:12]}) "
            f"than the one chosen ({tokenizer.kind}, hash {tokenizer.hash()[:12]}): their ids mean something else; "
            f"choose that one with tokenizer=saved tokenizer.path={folder}, or prepare the corpus with this one"
        )
    sequences = {}
    for split, of_split in shards.items():
        files = []
        for number, checksum in of_split.items():
            file = folder / shard_name("train" if split == "train" else "val", number)
            header = read_header(file)
            if header.itemsize != np.dtype(tokenizer.dtype).itemsize:
                raise UserError(
                    f"the shard {file} has {header.itemsize} bytes per token by its header, and its tokenizer "
                    f"{np.dtype(tokenizer.dtype).itemsize}; delete it and prepare the corpus again"
                )
            if header.tokenizer != tokenizer.hash():
                raise UserError(
                    f"the shard {file} was made by another tokenizer (hash {header.tokenizer[:12]}) than its folder "
                    f"says (hash {made_by['hash'][:12]}); delete it and prepare the corpus again"
                )
            if header.source != source:
                raise UserError(
                    f"the shard {file} was made from another text or with other settings (fingerprint "
                    f"{header.source[:12]}) than its folder says ({source[:12]}); prepare the corpus again"
                )
            if header.checksum != checksum:
                raise UserError(
                    f"the shard {file} is another than was written there: its checksum is {header.checksum[:12]}…, and "
                    f"{META} has {checksum[:12]}…; delete it and prepare the corpus again"
                )
            require_checksum(file, header, cache_dir)
            files.append((file, HEADER_BYTES, header.tokens))
        sequences[split] = TokenSequence(files, np.dtype(tokenizer.dtype).newbyteorder("<"))
    tokenizer.unknown_counts.update(unknown)
    return Tokens(sequences["train"], sequences["val"], ratios)


def _require_format(found: int, folder: Path) -> None:
    if found != FORMAT:
        raise UserError(
            f"the folder {folder} has format {found}, this version reads format {FORMAT}; "
            "prepare the corpus again with this version"
        )
