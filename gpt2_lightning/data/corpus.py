"""Plain text on disk, split into a training and a validation part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from gpt2_lightning.errors import UserError

_EMBEDDED = "embedded:"
_BETWEEN_DOCUMENTS = "\n\n"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Splits:
    """The two parts of a corpus."""

    train: str
    val: str

    def fingerprint(self) -> str:
        """SHA-256 of both parts and of where they meet."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()


@dataclass(frozen=True)
class TextCorpus:
    """One UTF-8 file, or a folder whose `.txt` files are read in the order of their names.

    A byte-order mark is dropped, and the line ends of Windows become those of everyone else.

    Raises:
        ValueError: if `val_fraction` is not between 0 and 1.
    """

    path: str
    """A file or a folder; `embedded:NAME` is a folder of the package."""
    val_fraction: float = 0.1
    """Share of the characters, at the end of the text, that only validate."""

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction: {self.val_fraction} is out of range, it must lie between 0 and 1")

    def read(self) -> Splits:
        """The whole text, cut at `1 - val_fraction` of its characters.

        Raises:
            UserError: if the path is missing, holds no text, is empty or is not UTF-8.
        """
        text = _BETWEEN_DOCUMENTS.join(_read_file(file) for file in self._files())
        cut = int(len(text) * (1 - self.val_fraction))
        if not 0 < cut < len(text):
            raise UserError(
                f"data.path: {self.path} has {len(text)} characters; with val_fraction={self.val_fraction} its "
                "training or its validation part is empty; use a longer text"
            )
        return Splits(train=text[:cut], val=text[cut:])

    def _files(self) -> list[Traversable]:
        if self.path.startswith(_EMBEDDED):
            name = self.path.removeprefix(_EMBEDDED)
            return _text_files(resources.files("gpt2_lightning.data") / name, name)
        path = Path(self.path).expanduser()
        if not path.exists():
            raise UserError(f"data.path: there is no file or folder {path.absolute()}; check the path")
        return _text_files(path, self.path) if path.is_dir() else [path]


def _text_files(folder: Traversable, name: str) -> list[Traversable]:
    if not folder.is_dir():
        raise UserError(
            f"data.path: there is no {_EMBEDDED}{name} in the package; name a file, or a folder of .txt files"
        )
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    if not files:
        raise UserError(f"data.path: the folder {name} holds no .txt files; name a file, or a folder of .txt files")
    return files


def _read_file(file: Traversable) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"data.path: {file} cannot be read: {error.strerror}") from None
    if not content.strip():
        raise UserError(f"data.path: {file} is empty; name a file with text in it")
    try:
        return content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"data.path: {file} is not UTF-8: byte 0x{content[error.start]:02x} at byte offset {error.start} "
            f"({error.reason}); convert it, for example with iconv -f latin1 -t utf-8"
        ) from None
