"""Serialization of tokenizers as text, in a checkpoint or in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gpt2_lightning import json_text
from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PathText
from gpt2_lightning.tokenizers import nanogpt
from gpt2_lightning.tokenizers.bpe import BPETokenizer
from gpt2_lightning.tokenizers.char import CharTokenizer
from gpt2_lightning.tokenizers.gpt2 import GPT2Tokenizer
from gpt2_lightning.tokenizers.huggingface import HuggingFaceTokenizer, read_text
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

FILE = "gpt2_lightning_tokenizer.json"
"""Name of the file in a folder; not `tokenizer.json`, which is Hugging Face's."""

_KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (BPETokenizer, CharTokenizer, GPT2Tokenizer, HuggingFaceTokenizer)
}


def tokenizer_from_text(saved: str) -> Tokenizer:
    """Restore a tokenizer from `Tokenizer.to_text`.

    Raises:
        UserError: if the kind is unknown, or the text is damaged.
    """
    try:
        fields = json_text.loads(saved)
    except ValueError as error:
        raise UserError(f"the saved tokenizer cannot be read: {error}") from None
    kind = fields.pop("kind", None) if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"the saved tokenizer is of kind '{kind}'; this version knows {', '.join(_KINDS)}")
    try:
        return _KINDS[kind].from_fields(fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the saved tokenizer of kind '{kind}' is damaged: {error!r}") from None


def write_tokenizer(tokenizer: Tokenizer, file: Path) -> None:
    """Save a tokenizer as text, atomically.

    Raises:
        UserError: if the file cannot be written; a previous file of this name is kept.
    """
    try:
        write_text(file, tokenizer.to_text())
    except OSError as error:
        raise UserError(f"the tokenizer {file} cannot be written: {error.strerror}; choose another folder") from None


def from_corpus(texts: Iterable[str], several_documents: bool, path: PathText) -> Tokenizer:
    """Load a saved tokenizer; the training text is not read.

    Args:
        texts: the training text.
        several_documents: whether the training text has several documents; not used.
        path: the file that `write_tokenizer` wrote, or a folder that holds it as `FILE`; or nanoGPT's `meta.pkl`.

    Raises:
        UserError: if the file is missing, or is not a saved tokenizer.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file /= FILE
    if file.name == nanogpt.META:
        return nanogpt.read_characters(file)
    saved = read_text(file)
    try:
        return tokenizer_from_text(saved)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
