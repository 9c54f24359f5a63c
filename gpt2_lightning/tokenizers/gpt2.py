"""GPT-2's byte-level BPE, run by tiktoken, with the merge table included in the package."""

from __future__ import annotations

import functools
import hashlib
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
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
_WHITE_SPACE = re.compile(r"[^\S\x1c-\x1f]+")
"""White space of Unicode, without the separators that Python adds to it."""
_LONGEST_RUN = 2**19
_THREADS = 8
_GROUPS_PER_THREAD = 4  # one task per short text would cost more than its encoding


class GPT2Tokenizer(Tokenizer):
    """GPT-2's tokenizer with 50,257 tokens: 256 bytes, 50,000 merges and the end-of-text token.

    Encodes every text; `<|endoftext|>` in a text is encoded as ordinary text. Thread-safe.
    """

    kind = "gpt2"
    cuts_at_spaces = True
    end_of_text = 50256

    @property
    def vocab_size(self) -> int:
        return 50257

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        try:
            return self._encode(text)
        except ValueError:
            parts = list(_divided_in_white_space(text))
            if len(parts) == 1:
                raise
            return np.concatenate([self._encode(part) for part in parts])

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        _encoding()  # load once, before the threads start
        size = max(1, len(texts) // (_THREADS * _GROUPS_PER_THREAD))
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [ids for group in pool.map(super().encode_batch, groups) for ids in group]

    def _encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        try:
            return _encoding().encode_to_numpy(text, disallowed_special=()).astype(self.dtype)
        except UnicodeEncodeError:  # lone surrogates, which become U+FFFD as in tiktoken's slower method
            return self._encode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

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
    """Return GPT-2's tokenizer, independent of the training text.

    The merge table is read immediately, so that errors are raised early.

    Raises:
        UserError: see `read_merge_lines`.
    """
    _encoding()
    return GPT2Tokenizer()


def _divided_in_white_space(text: str) -> Iterator[str]:
    """Divide a text where tiktoken's own words end in the long runs of white space that it cannot match.

    Its regular expressions backtrack over a run that a word follows, by at most a million characters. The run without
    its last character is a word of the split.
    """
    start = 0
    for run in _WHITE_SPACE.finditer(text):
        if run.end() - run.start() > _LONGEST_RUN and run.end() < len(text):
            yield text[start : run.end() - 1]
            start = run.end() - 1
    yield text[start:]


@functools.cache
def _encoding() -> tiktoken.Encoding:
    import tiktoken

    ranks = read_ranks(MERGES)
    return tiktoken.Encoding(
        name="gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def read_merge_lines(source: Traversable = MERGES) -> list[str]:
    """Read the lines of GPT-2's merge table: two tokens each, in GPT-2's visible characters.

    Raises:
        UserError: if the file is missing or is not GPT-2's merge table.
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
    return table.decode().splitlines()[1:]  # the first line is the version


def read_ranks(source: Traversable) -> dict[bytes, int]:
    """Return the id of each token by its bytes: the 256 bytes, then one token per merge.

    Raises:
        UserError: see `read_merge_lines`.
    """
    byte_of = byte_of_character()
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_of.values())}
    for line in read_merge_lines(source):
        ranks[bytes(byte_of[character] for character in line.replace(" ", ""))] = len(ranks)
    return ranks
