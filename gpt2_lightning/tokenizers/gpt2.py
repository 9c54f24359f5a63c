"""GPT-2's byte-level BPE, run by tiktoken, from the merge table that travels with the package."""

from __future__ import annotations

import functools
import hashlib
import lzma
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, SPLIT_PATTERN, byte_of_character
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tiktoken

MERGES = resources.files("gpt2_lightning.tokenizers") / "gpt2_vocabulary" / "vocab.bpe.xz"
MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
_THREADS = 8
_GROUPS_PER_THREAD = 4  # a task for each short text would cost more than encoding it


class GPT2Tokenizer(Tokenizer):
    """50,257 tokens: 256 bytes, 50,000 merges and the end of text.

    Encodes every text; `<|endoftext|>` in it is text like any other. Several threads may use it at once.
    """

    kind = "gpt2"
    cuts_at_spaces = True
    end_of_text = 50256

    @property
    def vocab_size(self) -> int:
        return 50257

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        try:
            return _encoding().encode_to_numpy(text, disallowed_special=()).astype(self.dtype)
        except UnicodeEncodeError:  # lone surrogates, which the slower way takes for U+FFFD
            return np.array(_encoding().encode_ordinary(text), dtype=self.dtype)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        _encoding()  # once, before several threads ask for it
        size = max(1, len(texts) // (_THREADS * _GROUPS_PER_THREAD))
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [ids for group in pool.map(super().encode_batch, groups) for ids in group]

    def decode(self, ids: Sequence[int]) -> str:
        return _encoding().decode(list(ids))

    def token_bytes(self, token: int) -> bytes:
        return _encoding().decode_single_token_bytes(token)

    def fields(self) -> dict[str, Any]:
        return {"merges_sha256": MERGES_SHA256}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        if fields["merges_sha256"] != MERGES_SHA256:
            raise UserError(f"the tokenizer has another merge table, {fields['merges_sha256']}, than GPT-2's")
        return cls()


def from_corpus(texts: Iterable[str], several_documents: bool) -> GPT2Tokenizer:
    """GPT-2's tokenizer, the same for every text, which is not read.

    The merge table is read at once, so that a fault shows early; errors as in `read_merge_lines`.
    """
    _encoding()
    return GPT2Tokenizer()


@functools.cache
def _encoding() -> tiktoken.Encoding:
    import tiktoken

    ranks = read_ranks(MERGES)
    return tiktoken.Encoding(
        name="gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def read_merge_lines(source: Traversable = MERGES) -> list[str]:
    """The lines of GPT-2's merge table: two tokens each, in its visible characters.

    Raises:
        UserError: if the file is missing or is not GPT-2's table.
    """
    remedy = "install the package again, or restore the file from its repository"
    try:
        table = lzma.decompress(source.read_bytes())
    except FileNotFoundError:
        raise UserError(f"GPT-2's vocabulary is missing: {source}; {remedy}") from None
    except lzma.LZMAError as error:
        raise UserError(f"GPT-2's vocabulary cannot be unpacked ({error}): {source}; {remedy}") from None
    found = hashlib.sha256(table).hexdigest()
    if found != MERGES_SHA256:
        raise UserError(
            f"GPT-2's vocabulary was altered: {source} has SHA-256 {found}, expected {MERGES_SHA256}; {remedy}"
        )
    return table.decode().splitlines()[1:]  # the first line is a version


def read_ranks(source: Traversable) -> dict[bytes, int]:
    """Every token's bytes and id: first the 256 bytes, then one token a merge. Errors as in `read_merge_lines`."""
    byte_of = byte_of_character()
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_of.values())}
    for line in read_merge_lines(source):
        ranks[bytes(byte_of[character] for character in line.replace(" ", ""))] = len(ranks)
    return ranks
