"""Rows of published benchmarks, from a folder or from the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.data.tables.files import Columns, format_of, read_file
from gpt2_lightning.data.tables.hub import read_dataset
from gpt2_lightning.data.tables.records import BadRows, Record
from gpt2_lightning.errors import UserError, listed
from gpt2_lightning.regular_files import read_whole
from gpt2_lightning.settings import NonEmpty, PositiveInt, Settings

_PLAIN_TEXT = (".txt", ".raw", ".tokens")
_MOST_BYTES_OF_TEXT = 2**30
_REMEDIES = {
    "data.path: ": "",
    "data.format: ": "",
    "data.revision: ": "",
    "set data.format to one of": "rename it to end in one of",
    "set data.format=jsonl": "rename it to end in .jsonl",
    "set data.quote=null": "quote its fields",
    "set data.revision=COMMIT": "set source.revision=COMMIT",
}
"""Remedies by the setting of `data` that messages of `data.tables` name."""


@dataclass(frozen=True)
class SourceRows:
    """Rows of a benchmark, and their origin."""

    records: list[Record]
    """At least one."""
    location: str
    """The file, within `data_dir` if it is there, or the data set with its revision."""
    digest: str
    """SHA-256 of the file, or of the rows of a data set."""
    notes: tuple[str, ...] = ()
    """What differs from the published rows; see `Items.notes`."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSource(Settings):
    """Origin of the rows of a published benchmark.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    folder: NonEmpty
    """Folder of this benchmark within `data_dir`."""
    file: NonEmpty
    """Name of the file in that folder, or a pattern such as `*val*.jsonl`: .jsonl, .json, .csv, .tsv or .parquet with a
    row for each item, or .txt, .raw or .tokens, which is one row with the column `text`."""
    address: NonEmpty
    """Web address of the published file, for messages."""
    sha256: str | None = None
    """Digest of the published file."""
    rows: PositiveInt | None = None
    """Number of rows of the published file."""
    hub: str | None = None
    """Name of the data set on the Hugging Face Hub, from which the rows are read if there is no `data_dir`."""
    config: str | None = None
    """Configuration of the data set on the Hub, if it has several."""
    split: str = "test"
    """Split of the data set on the Hub."""
    revision: str | None = None
    """Commit of the data set on the Hub."""

    def read(self, data_dir: Path | None) -> SourceRows:
        """Read the rows.

        Args:
            data_dir: a folder with a folder for each benchmark; None to read the data set on the Hub.

        Raises:
            UserError: if the rows are absent or cannot be read; the message says what to download into which folder.
        """
        if data_dir is None:
            return self._read_hub()
        file = self._find(data_dir)
        found = dataclasses.replace(read_rows(file), location=f"{self.folder}/{file.name}")  # cards of models show it
        return dataclasses.replace(found, notes=tuple(self._differences(found)))

    def _find(self, data_dir: Path) -> Path:
        folder = data_dir.expanduser() / self.folder
        files = sorted(file for file in folder.glob(self.file) if file.is_file())
        if not files:
            instead = f", or leave out data_dir to read hf:{self.hub}" if self.hub else ""
            others = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
            found = f" (the folder has {listed(others)})" if others else ""
            missing = folder.absolute() / self.file
            raise UserError(f"there is no file {missing}{found}; {self._download(data_dir)}{instead}")
        if len(files) > 1:
            raise UserError(
                f"{folder} has several files that match {self.file}: {listed([file.name for file in files])}; name one "
                "of them with source.file"
            )
        return files[0]

    def _read_hub(self) -> SourceRows:
        if self.hub is None:
            raise UserError(f"there is no data_dir, and the rows are in no data set; {self._download(None)}")
        name = f"hf:{self.hub}@{self.revision}{f', {self.config}' if self.config else ''}, {self.split}"
        try:
            splits = read_dataset(self.hub, self.config, self.revision, without_network=self._download(None))
        except UserError as error:
            raise UserError(_for_benchmarks(error)) from None
        if self.split not in splits:
            raise UserError(f"hf:{self.hub} has no split {self.split}, it has {listed(splits)}; set source.split")
        records = list(splits[self.split])
        content = json.dumps([record.values for record in records], sort_keys=True, default=str)
        return SourceRows(records, name, hashlib.sha256(content.encode()).hexdigest())

    def _differences(self, found: SourceRows) -> Iterator[str]:
        """Yield a sentence if a file is known to differ from the published one."""
        is_other = self.sha256 is not None and found.digest != self.sha256
        if is_other or (self.sha256 is None and self.rows is not None and len(found.records) != self.rows):
            yield (
                f"{found.location} is not the published file: it has {_counted(len(found.records), found.digest)}; "
                f"{self.address} has {_counted(self.rows, self.sha256)}"
            )

    def _download(self, data_dir: Path | None) -> str:
        rows = f" ({self.rows:,} rows)" if self.rows else ""
        into = f"{data_dir or 'FOLDER'}/{self.folder}"
        return f"download {self.address}{rows} into {into}{'' if data_dir else ' and set data_dir=FOLDER'}"


def read_rows(file: Path) -> SourceRows:
    """Read the rows of a file.

    Args:
        file: a file in one of the formats of `BenchmarkSource.file`.

    Raises:
        UserError: if the file cannot be read, has no rows, or has a row that cannot be read, naming its line.
    """
    file = file.expanduser()
    bad = BadRows()
    try:
        if file.suffix.lower() in _PLAIN_TEXT:
            records = [_text(file)]
        else:
            kind = format_of(file, None)
            columns = Columns("\t" if kind == "tsv" else ",", '"', None)
            records = list(read_file(file, kind, columns, bad))
    except UserError as error:
        raise UserError(_for_benchmarks(error)) from None
    if bad.count:
        raise UserError(f"{file} cannot be evaluated; correct its rows: {bad}")
    if not records:
        raise UserError(f"{file} has no rows; name a file with a row for each item")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return SourceRows(records, str(file), digest)


def _text(file: Path) -> Record:
    try:
        return Record(str(file), {"text": read_whole(file, _MOST_BYTES_OF_TEXT).decode()})
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8: byte offset {error.start} ({error.reason}); convert it") from None


def _for_benchmarks(error: UserError) -> str:
    """Return a message of `data.tables` with the remedies of benchmarks in place of the settings of `data`."""
    message = str(error)
    for setting, remedy in _REMEDIES.items():
        message = message.replace(setting, remedy)
    return message


def _counted(rows: int | None, digest: str | None) -> str:
    parts = [] if rows is None else [f"{rows:,} rows"]
    return " and ".join(parts if digest is None else [*parts, f"SHA-256 {digest[:16]}…"])
