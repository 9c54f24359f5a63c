"""Corpora of the Hugging Face Hub, streamed with `datasets`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gpt2_lightning.data.corpus import BadRow, Corpus, Piece, Segment, Split, split_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import FreeText, PathText, RegularExpression, relation

if TYPE_CHECKING:
    import datasets

_REVISION = re.compile(r"[0-9a-f]{40}")
_UNKNOWN_SIZE = 2**20


@dataclass(frozen=True)
class HubPiece:
    """One file of a split; with a limit, all files of the split up to the limit."""

    name: str
    """Name of the split in the dataset."""
    split: Split | None
    """None if the split is determined per document."""
    file: int
    files: int
    size: int


@dataclass(frozen=True, kw_only=True)
class HubCorpus(Corpus):
    """Rows of a dataset, streamed: only the token shards are stored. No code of the dataset is run."""

    name: PathText
    """Dataset on the Hub, such as `roneneldan/TinyStories`, or a folder of parquet or `.jsonl` files."""
    revision: str | None = None
    """Commit of the dataset, all 40 digits, for reproducibility; null for a local folder."""
    config: str | None = None
    """Configuration of the dataset."""
    train_split: str = "train"
    """Name of the training split."""
    val_split: str | None = None
    """Name of the validation split; null to hold out a part of the training split."""
    field: str = "text"
    """Column of the text."""
    document_start: Annotated[str, RegularExpression(), FreeText(nullable=True)] | None = None
    """For datasets whose rows are lines: a regular expression that matches the first line of every document. Null if
    rows are documents. A document ends with its file."""
    small: bool = False
    """Whether training may prepare the corpus automatically."""

    @relation
    def _revision_is_a_commit(self) -> Iterator[str]:
        if not self._is_folder and (self.revision is None or not _REVISION.fullmatch(self.revision)):
            yield f"revision: {self.revision} is no commit of 40 digits; copy that of {self.name} from the hub"

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).expanduser().is_dir()

    @property
    def several_documents(self) -> bool:
        return True

    @property
    def prepares_itself(self) -> bool:
        return self.small or self.limit is not None

    def fingerprint(self, cache_dir: Path) -> str:
        settings = self.settings()
        if self._is_folder:
            files = sorted(file for file in Path(self.name).expanduser().rglob("*") if file.is_file())
            settings["name"] = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def pieces(self, whole_documents: bool) -> list[Piece]:
        pieces: list[Piece] = []
        splits: list[tuple[str, Split | None]] = [(self.train_split, None if self.val_split is None else "train")]
        if self.val_split is not None:
            splits.append((self.val_split, "val"))
        for name, split in splits:
            rows = self._open(name)
            count = 1 if self.limit is not None else rows.num_shards
            described = (rows.info.splits or {}).get(name)
            size = (described.num_bytes // count if described else 0) or _UNKNOWN_SIZE
            pieces += [HubPiece(name, split, file, count, size) for file in range(count)]
        return pieces

    def read(self, piece: HubPiece) -> Iterator[Segment | BadRow]:
        most = math.inf if self.limit is None else self.limit
        for number, document in enumerate(self._documents(piece)):
            if number >= most:
                return
            split = piece.split or split_of(piece.file + number, self.val_fraction)
            yield document if isinstance(document, BadRow) else Segment(document, split)

    def _documents(self, piece: HubPiece) -> Iterator[str | BadRow]:
        """Yield the documents: rows, or the joined lines of a document."""
        starts = re.compile(self.document_start) if self.document_start is not None else None
        lines: list[str] = []
        for row in self._rows(piece):
            if starts is None or isinstance(row, BadRow):
                yield row
            elif starts.match(row):
                if any(lines):
                    yield "".join(lines)
                lines = [row]
            else:
                lines.append(row)
        if lines:
            yield "".join(lines)

    def _rows(self, piece: HubPiece) -> Iterator[str | BadRow]:
        rows = self._open(piece.name)
        if self.limit is None:
            rows = rows.shard(num_shards=piece.files, index=piece.file)
        with _telling(self.name):
            for number, row in enumerate(rows):
                text = row.get(self.field)
                if isinstance(text, str):
                    yield text.replace("\r\n", "\n")
                    continue
                where = f"{self.name}, split {piece.name}, file {piece.file}, row {number}"
                has = f"it has {', '.join(row)}" if self.field not in row else f"it is a {type(text).__name__}"
                yield BadRow(where, f"no text in the field '{self.field}': {has}")

    def _open(self, split: str) -> datasets.IterableDataset:
        try:
            import datasets
        except ImportError:
            raise UserError(
                "this corpus is read by the package datasets, which is not installed: "
                "pip install gpt2-lightning[datasets]"
            ) from None
        name = str(Path(self.name).expanduser()) if self._is_folder else self.name
        with _telling(self.name):
            return datasets.load_dataset(name, self.config, split=split, revision=self.revision, streaming=True)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Convert the exceptions of `datasets` for a missing network or name to `UserError`."""
    import datasets

    try:
        yield
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"data.name: the data set {name} cannot be read: {reason}; check the name, the split and the network, or "
            "prepare it on a machine that has one and copy the folder of shards (data=tokens reads it), or name a "
            "downloaded folder of its files with data.name=FOLDER"
        ) from None
