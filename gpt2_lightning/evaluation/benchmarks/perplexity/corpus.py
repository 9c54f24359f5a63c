"""Perplexity of prepared corpora."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.sampling.windows import document_borders
from gpt2_lightning.data.shards.digests import digest
from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.benchmark import Document, Documents, Perplexity
from gpt2_lightning.evaluation.likelihood.request import Request, TokenIds
from gpt2_lightning.evaluation.likelihood.windows import Windows, sliding_windows
from gpt2_lightning.settings import PathText

_CACHE = Path("~/.cache/gpt2-lightning")
"""Folder of the digests of large files, the default of `cache_dir` in the commands."""


@dataclass(frozen=True, kw_only=True)
class CorpusPerplexity(Perplexity):
    """Perplexity of token files: a folder written by `prepare`, or files of nanoGPT or llm.c.

    Without a stride, the windows are those of validation in training, and the loss is `val/loss`. Bytes are the mean of
    the corpus per token; words are not counted.

    Raises:
        ValueError: with every setting that is out of range.
    """

    path: PathText
    """A folder written by `prepare`, or token files as in `data.corpora.token_files.TokenFiles`."""
    split: Literal["train", "val"] = "val"
    """Part of the corpus."""
    documents: Literal["separate", "joined"] = "joined"
    """Whether windows are restricted to a document, or cross the boundaries of documents, as `data.documents` in
    training."""

    def read(self, subject: Subject, data_dir: Path | None) -> Documents:
        end_of_text = subject.tokenizer.end_of_text
        if self.documents == "separate" and end_of_text is None:
            raise UserError(
                "documents: the tokenizer has no end-of-text token, so that documents cannot be separated; set "
                "documents=joined"
            )
        cache_dir = _CACHE.expanduser()
        try:
            tokens = TokenFiles(path=self.path).open(subject.tokenizer, cache_dir)
        except UserError as error:
            raise UserError(str(error).replace("data.path", "path")) from None
        sequence = tokens.val if self.split == "val" else tokens.train
        files = [digest(file, cache_dir, skip=offset) for file, offset in sequence.files]
        borders = [0, len(sequence) - 1]
        if self.documents == "separate" and end_of_text is not None:
            borders = document_borders(sequence, end_of_text).tolist()
        ranges = [TokenRange(sequence, start, last + 1) for start, last in itertools.pairwise(borders)]
        block_size = subject.model.config.block_size
        return Documents(
            [self._document(ids, block_size, tokens.bytes_per_token[self.split]) for ids in ranges],
            f"{self.path}, {self.split}",
            hashlib.sha256(json.dumps([files, len(sequence)]).encode()).hexdigest(),
        )

    def _document(self, ids: TokenRange, block_size: int, bytes_per_token: float) -> Document:
        if self.stride is None:
            windows = validation_windows(ids, block_size)
        else:
            windows = sliding_windows(cast(TokenIds, ids), block_size, self.stride)  # which slices them
        return Document(windows, len(ids), bytes_per_token * len(ids))


def validation_windows(ids: TokenRange, block_size: int) -> Windows:
    """Windows of validation in training: each begins with the last token of the one before."""

    def window(number: int) -> Request:
        inputs_and_last_target = ids[number * block_size : (number + 1) * block_size + 1]
        return Request(inputs_and_last_target[:1], (inputs_and_last_target[1:],))

    return Windows(math.ceil((len(ids) - 1) / block_size), window)


@dataclass(frozen=True)
class TokenRange:
    """A part of a token sequence, which is read from its files when it is sliced."""

    sequence: TokenSequence
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, places: slice) -> TokenIds:
        start, stop, _ = places.indices(len(self))
        return self.sequence.slice(self.start + start, self.start + max(start, stop))
