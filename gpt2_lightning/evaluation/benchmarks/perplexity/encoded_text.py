"""Texts as documents of token ids, with their numbers of bytes and words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.benchmark import Document, Documents
from gpt2_lightning.evaluation.likelihood.windows import disjoint_windows, sliding_windows
from gpt2_lightning.tokenizers import Tokenizer

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text, and its size."""

    ids: NDArray[np.unsignedinteger[Any]]
    n_bytes: int
    """In UTF-8."""
    n_words: int
    """As in lm-evaluation-harness' task `wikitext`: the number of parts into which white space divides the text."""
    sha256: bytes

    def document(self, block_size: int, stride: int | None, prefix: int | None) -> Document:
        """Divide the text into windows.

        Args:
            block_size: context of the model, in tokens.
            stride: tokens from the beginning of a window to that of the next; None for disjoint windows.
            prefix: token by which the first one is predicted; None for not predicting it.
        """
        if stride is not None:
            windows = sliding_windows(self.ids, block_size, stride, prefix)
        elif prefix is None:
            windows = disjoint_windows(self.ids[1:], block_size, int(self.ids[0]))
        else:
            windows = disjoint_windows(self.ids, block_size, prefix)
        return Document(windows, len(self.ids), self.n_bytes, self.n_words)


def encode(chunks: Iterable[str], tokenizer: Tokenizer, rewrite: Callable[[str], str] = str) -> EncodedText:
    """Encode a text.

    Args:
        chunks: parts of the text; each but the first begins with white space after a word.
        tokenizer: the tokenizer.
        rewrite: function of a chunk whose result is encoded in its place. Bytes and words are counted before it.

    Raises:
        UserError: if the tokenizer lacks a character.
    """
    sha256 = hashlib.sha256()
    n_bytes, n_words = 0, 1
    ids = [np.empty(0, dtype=tokenizer.dtype)]
    for chunk in chunks if tokenizer.cuts_at_spaces else ["".join(chunks)]:
        content = chunk.encode(errors="surrogatepass")
        sha256.update(content)
        n_bytes += len(content)
        n_words += sum(1 for _ in _SPACE.finditer(chunk))
        ids.append(tokenizer.encode(rewrite(chunk)))
    return EncodedText(np.concatenate(ids), n_bytes, n_words, sha256.digest())


def join(texts: Sequence[EncodedText], end_of_text: int | None) -> EncodedText:
    """Join texts, with the end-of-text token between them if there is one."""
    between = np.array([] if end_of_text is None else [end_of_text], dtype=texts[0].ids.dtype)
    first, *others = (text.ids for text in texts)
    return EncodedText(
        np.concatenate([first, *(part for ids in others for part in (between, ids))]),
        sum(text.n_bytes for text in texts),
        sum(text.n_words for text in texts),
        hashlib.sha256(b"".join(text.sha256 for text in texts)).digest(),
    )


def documents_of(
    texts: Sequence[EncodedText],
    subject: Subject,
    stride: int | None,
    prefix: int | None,
    source: str,
    notes: tuple[str, ...] = (),
) -> Documents:
    """Divide texts into windows; see `EncodedText.document` and `Documents`."""
    block_size = subject.model.config.block_size
    digest = hashlib.sha256(b"".join(text.sha256 for text in texts)).hexdigest()
    return Documents([text.document(block_size, stride, prefix) for text in texts], source, digest, notes)
