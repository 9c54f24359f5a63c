"""File format of shards: token ids with a header that describes them.

The header has 256 bytes: a magic number, little-endian fields in the order of `Header`, and zeros. The ids follow, as
little-endian uint16 or uint32, up to the end of the file. An end-of-text token ends each document.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.atomic import open_binary
from gpt2_lightning.data.shards.digests import digest
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import require_regular
from gpt2_lightning.tokenizers import Tokenizer

MAGIC = b"GPT2LTOK"
FORMAT = 1
"""Format version; incremented with every change that earlier versions cannot read."""
HEADER_BYTES = 256
_LAYOUT = struct.Struct("<8sIIQQQQ32s32s32s")
_REMEDY = "delete it and prepare the corpus again; what is whole is kept"


@dataclass(frozen=True)
class Header:
    """Header of a shard."""

    format: int
    """Format version."""
    itemsize: int
    """Bytes per id, 2 or 4."""
    tokens: int
    """Number of ids."""
    documents: int
    """Number of documents that end in the shard."""
    text_bytes: int
    """Bytes of the encoded text in UTF-8."""
    vocab_size: int
    """Vocabulary size; all ids are below it."""
    tokenizer: str
    """Hash of the tokenizer, in hexadecimal."""
    source: str
    """Fingerprint of the corpus, in hexadecimal."""
    checksum: str
    """SHA-256 of the ids, in hexadecimal."""

    def to_bytes(self) -> bytes:
        numbers = (self.format, self.itemsize, self.tokens, self.documents, self.text_bytes, self.vocab_size)
        hashes = (bytes.fromhex(text) for text in (self.tokenizer, self.source, self.checksum))
        return _LAYOUT.pack(MAGIC, *numbers, *hashes).ljust(HEADER_BYTES, b"\0")

    @property
    def file_bytes(self) -> int:
        """Size of the file in bytes, including the header."""
        return HEADER_BYTES + self.tokens * self.itemsize


def read_header(file: Path) -> Header:
    """Read the header of a shard, and verify the size of the file.

    Raises:
        UserError: if the file is missing, not a shard, of a later format or truncated.
    """
    try:
        require_regular(file)
        with file.open("rb") as content:
            start = content.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(f"the token shard {file} cannot be read: {error.strerror}; prepare the corpus again") from None
    if len(start) < HEADER_BYTES or not start.startswith(MAGIC):
        raise UserError(f"{file} is no token shard: it does not begin with {MAGIC.decode()}; {_REMEDY}")
    fields: list[Any] = [v.hex() if isinstance(v, bytes) else v for v in _LAYOUT.unpack_from(start)[1:]]
    header = Header(*fields)
    if header.format != FORMAT:
        raise UserError(
            f"the token shard {file} has format {header.format}, this version reads format {FORMAT}; "
            "prepare the corpus again with this version"
        )
    if (size := file.stat().st_size) != header.file_bytes:
        raise UserError(
            f"the token shard {file} is cut off or damaged: it has {size:,} bytes, and with the {header.tokens:,} "
            f"tokens of its header it should have {header.file_bytes:,}; {_REMEDY}"
        )
    return header


def require_checksum(file: Path, header: Header, cache_dir: Path) -> None:
    """Compare the ids of a shard with the checksum in its header.

    Raises:
        UserError: with the file and both checksums, if they differ.
    """
    found = digest(file, cache_dir, skip=HEADER_BYTES)
    if found != header.checksum:
        raise UserError(
            f"the token shard {file} was altered: the SHA-256 of its ids is {found[:16]}…, "
            f"its header says {header.checksum[:16]}…; {_REMEDY}"
        )


class ShardWriter:
    """Writer that appends ids to a shard and maintains its counts."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self.file, self.dtype = file, dtype
        self.tokens = self.documents = self.text_bytes = 0
        self.checksum = hashlib.sha256()

    def add(self, ids: NDArray[np.unsignedinteger[Any]]) -> None:
        """Append ids."""
        content = np.ascontiguousarray(ids, dtype=self.dtype).data
        self.checksum.update(content)
        self.file.write(content)
        self.tokens += ids.size


@contextlib.contextmanager
def writing(file: Path, tokenizer: Tokenizer, source: str) -> Iterator[ShardWriter]:
    """Write a shard in a `with` block. The file gets its name and header at the end; after an exception, it is deleted.

    Args:
        file: path of the shard.
        tokenizer: tokenizer of the ids.
        source: fingerprint of the corpus, in hexadecimal.
    """
    with open_binary(file, durable=False) as content:  # all shards are synced before the corpus counts as prepared
        content.write(bytes(HEADER_BYTES))
        shard = ShardWriter(content, np.dtype(tokenizer.dtype).newbyteorder("<"))
        yield shard
        header = Header(
            format=FORMAT,
            itemsize=shard.dtype.itemsize,
            tokens=shard.tokens,
            documents=shard.documents,
            text_bytes=shard.text_bytes,
            vocab_size=tokenizer.vocab_size,
            tokenizer=tokenizer.hash(),
            source=source,
            checksum=shard.checksum.hexdigest(),
        )
        content.seek(0)
        content.write(header.to_bytes())
