"""Existing token files, read in place: shards of this package, and files of nanoGPT and llm.c."""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np

from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.shards.digests import memory_of
from gpt2_lightning.data.shards.folder import META, SETTINGS
from gpt2_lightning.data.shards.format import MAGIC
from gpt2_lightning.data.shards.prepared import Tokens, open_prepared
from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import require_regular
from gpt2_lightning.settings import PathText, ProperShare, Settings
from gpt2_lightning.tokenizers import CharTokenizer, Tokenizer, nanogpt

_UINT16 = np.dtype("<u2")
_LLMC_LAYOUT = struct.Struct("<4sii")
_LLMC_LLAMA_MAGIC = struct.pack("<i", 20240801)
_LLMC_MAGIC, _LLMC_VERSION, _LLMC_HEADER_BYTES = struct.pack("<i", 20240520), 1, 1024
_SCANNED_AT_ONCE = 2**24
_ENOUGH_TO_TELL = 64
"""Minimum bytes for concluding that a file of printable characters is text."""

TokenRange = tuple[Path, int, int]
"""Path, bytes before the first id, and number of ids."""


@dataclass(frozen=True, kw_only=True)
class TokenFiles(Settings):
    """Existing token files. The tokenizer must be the one that wrote them; GPT-2's ids require `tokenizer=gpt2`.

    Supported formats: folders written by `prepare`; nanoGPT's `.bin`, little-endian uint16 without a header, also
    of characters, with `tokenizer=saved tokenizer.path=FOLDER/meta.pkl`; llm.c's `.bin`, which has a header.

    Raises:
        ValueError: if `val_fraction` is out of range.
    """

    path: PathText
    """A file, a pattern such as `fineweb_train_*.bin`, or a folder, for its files with `train` in their names."""
    val_path: PathText | None = None
    """The same for validation. Null for the files next to those of `path` with `val` instead of `train` in their names;
    without such files, the last tokens of `path` are held out."""
    val_fraction: ProperShare = 0.1
    """Share of the tokens held out for validation if there are no validation files."""
    documents: Documents = "joined"
    """Treatment of document boundaries in windows; see `corpus.Corpus`."""

    def open(self, tokenizer: Tokenizer, cache_dir: Path) -> Tokens:
        """Open the training and the validation sequence.

        Args:
            tokenizer: defines the valid ids.
            cache_dir: cache folder for the results of checking large files.

        Raises:
            UserError: if there are no files, or one is truncated, of an unknown format or contains an unknown id.
        """
        place = Path(self.path).expanduser()
        if (place / META).exists():
            return open_prepared(place, tokenizer, cache_dir)
        if (place / SETTINGS).exists():
            raise UserError(
                f"data.path: the shards in {place} are not all there yet; run the command that prepares them again, or "
                "make the other machines' shares"
            )
        train = [_whole(file) for file in _find(self.path, "data.path", "train")]
        val_files = _find(self.val_path, "data.val_path", "val") if self.val_path else _beside([f for f, _, _ in train])
        val = [_whole(file) for file in val_files]
        if both := sorted({*train} & {*val}):
            raise UserError(
                f"data.path: {both[0][0]} would both train and validate; name the training files alone, and those that "
                "validate with data.val_path"
            )
        for folder in sorted({file.parent for file, _, _ in [*train, *val]}):
            _require_nanogpts_characters(folder, tokenizer)
        for tokens in [*train, *val]:
            _require_known_ids(tokens, tokenizer, cache_dir)
        if not val_files:
            train, val = _cut(train, int(sum(count for _, _, count in train) * (1 - self.val_fraction)))
        sequences = {"train": TokenSequence(train, _UINT16), "val": TokenSequence(val, _UINT16)}
        return Tokens(
            sequences["train"], sequences["val"], {n: _bytes_per_token(s, tokenizer) for n, s in sequences.items()}
        )


def _find(path: str, setting: str, part: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(file for file in place.glob("*.bin") if part in file.name)
        what = f"no .bin file with '{part}' in its name, and no {META}"
    else:
        found = [place] if place.exists() else sorted(f for f in map(Path, glob(str(place))) if f.is_file())  # noqa: PTH207
        what = "nothing there"
    if not found:
        raise UserError(f"{setting}: {place.absolute()}: {what}; name token files, or prepare text with data=text")
    return found


def _beside(files: list[Path]) -> list[Path]:
    names = {file.with_name(file.name.replace("train", "val")) for file in files if "train" in file.name}
    exact = sorted(name for name in names if name.exists())
    if exact or not names:
        return exact
    starts = {(file.parent, file.name.split("train")[0] + "val") for file in files if "train" in file.name}
    return sorted({f for folder, start in starts for f in folder.glob("*.bin") if f.name.startswith(start)})


def _require_binary(file: Path) -> None:
    with file.open("rb") as content:
        start = content.read(4096)
    if len(start) >= _ENOUGH_TO_TELL and all(32 <= byte < 127 or byte in b"\n\r\t" for byte in start):
        raise UserError(f"{file} holds text and not token ids; read it with data=text data.path={file}")


def _whole(file: Path) -> TokenRange:
    """Locate the ids of a file by its header."""
    try:
        require_regular(file)
        with file.open("rb") as content:
            start = content.read(_LLMC_LAYOUT.size)
        size = file.stat().st_size
    except OSError as error:
        raise UserError(f"the token file {file} cannot be read: {error.strerror}") from None
    if start.startswith(MAGIC):
        raise UserError(
            f"{file} is a shard, which is read with its folder: data.path={file.parent}; "
            f"where that has no {META}, prepare the corpus to its end"
        )
    if start[:4] == _LLMC_LLAMA_MAGIC:
        raise UserError(
            f"{file} is llm.c's format for Llama 3, whose tokens are not GPT-2's; this version does not read it"
        )
    if start[:4] == _LLMC_MAGIC:
        _, version, tokens = _LLMC_LAYOUT.unpack(start.ljust(_LLMC_LAYOUT.size, b"\0"))
        if version != _LLMC_VERSION:
            raise UserError(f"{file} is llm.c's format {version}, this version reads format {_LLMC_VERSION}")
        expected = _LLMC_HEADER_BYTES + tokens * _UINT16.itemsize
        if size != expected:
            raise UserError(
                f"{file} is cut off or damaged: it has {size:,} bytes, and with the {tokens:,} tokens of its header "
                f"it should have {expected:,}; copy or make it again"
            )
        return file, _LLMC_HEADER_BYTES, tokens
    if size == 0 or size % 2:
        raise UserError(f"{file} has {size:,} bytes, which are no uint16 tokens; copy or make it again")
    _require_binary(file)
    return file, 0, size // 2


def _cut(ranges: list[TokenRange], first: int) -> tuple[list[TokenRange], list[TokenRange]]:
    """Divide ranges into the first `first` tokens and the rest."""
    before: list[TokenRange] = []
    after: list[TokenRange] = []
    for file, offset, count in ranges:
        head = min(max(first, 0), count)
        first -= count
        before += [(file, offset, head)] if head else []
        after += [(file, offset + head * _UINT16.itemsize, count - head)] if head < count else []
    return before, after


def _require_nanogpts_characters(folder: Path, tokenizer: Tokenizer) -> None:
    """Check that the tokenizer is that of nanoGPT's `meta.pkl` in a folder of token files, if there is one."""
    vocabulary = folder / nanogpt.META
    if not vocabulary.is_file():
        return
    remedy = f"if the ids are those of another tokenizer, move {nanogpt.META} to another folder"
    try:
        characters = nanogpt.read_characters(vocabulary)
    except UserError as error:
        raise UserError(f"data.path: the vocabulary of these token files cannot be used: {error}; {remedy}") from None
    if not isinstance(tokenizer, CharTokenizer) or tokenizer.alphabet != characters.alphabet:
        raise UserError(
            f"data.path: the token files in {folder} have the ids of {characters.vocab_size} characters, by nanoGPT's "
            f"{nanogpt.META} there, and the tokenizer {tokenizer.kind} has {tokenizer.vocab_size:,} tokens; set "
            f"tokenizer=saved tokenizer.path={vocabulary}; {remedy}"
        )


def _require_known_ids(tokens: TokenRange, tokenizer: Tokenizer, cache_dir: Path) -> None:
    """Check that every id is below the vocabulary size; the result for a large file is cached."""
    file, offset, _ = tokens
    sequence = TokenSequence([tokens], _UINT16)
    is_large = len(sequence) > _SCANNED_AT_ONCE
    memory, identity = memory_of(file, offset, cache_dir, "largest_ids")
    if is_large:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            remembered = json.loads(memory.read_text(encoding="utf-8"))
            if remembered["identity"] == identity and remembered["largest"] < tokenizer.vocab_size:
                return
    largest = 0
    for start in range(0, len(sequence), _SCANNED_AT_ONCE):
        ids = sequence.slice(start, min(start + _SCANNED_AT_ONCE, len(sequence)))
        largest = max(largest, int(ids.max()))
        if largest >= tokenizer.vocab_size:
            place = start + int(np.argmax(ids >= tokenizer.vocab_size))
            raise UserError(
                f"{file}: the id at token {place:,} is {sequence.slice(place, place + 1)[0]:,}, and the tokenizer "
                f"{tokenizer.kind} has {tokenizer.vocab_size:,} tokens; choose the tokenizer that made the file"
            )
    if is_large:
        with contextlib.suppress(OSError):  # the cache is optional
            write_text(memory, json.dumps({"identity": identity, "largest": largest}))


def _bytes_per_token(sequence: TokenSequence, tokenizer: Tokenizer) -> float:
    """Mean bytes of text per token over the first sixteen million tokens; the end-of-text token counts no bytes."""
    ids = sequence.slice(0, min(len(sequence), _SCANNED_AT_ONCE))
    counts = np.bincount(ids, minlength=tokenizer.vocab_size)
    lengths = [0 if i == tokenizer.end_of_text else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)]
    return float(counts @ np.array(lengths)) / max(1, ids.size)
