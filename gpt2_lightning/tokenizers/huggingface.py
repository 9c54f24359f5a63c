"""Tokenizers defined by a `tokenizer.json`, run by Hugging Face's `tokenizers`."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning import json_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import read_whole
from gpt2_lightning.settings import PathText
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, byte_of_character
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
END_NAME = "eos_token"
SPECIAL_TOKENS = ("unk_token", "pad_token")
"""Names of special tokens in a configuration, besides the end of text, that are kept for exports."""
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "[SEP]", "<eos>")
"""End-of-text tokens in order of precedence, for folders whose configuration does not name one."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class HuggingFaceTokenizer(Tokenizer):
    """Tokenizer of a `tokenizer.json`.

    Encodes every text as ordinary text: special tokens in it are not recognized, none are added, and padding,
    truncation and dropout are off, independent of the definition. (A Unigram or word model whose vocabulary contains a
    special token as well may still choose it for its characters.)

    Args:
        definition: content of a `tokenizer.json`.
        end_of_text: the end-of-text token; None for none.
        special_tokens: other tokens by their names in `tokenizer_config.json`, see `SPECIAL_TOKENS`, to export them.

    Raises:
        UserError: if the library `tokenizers` is not installed.
        ValueError: if the library rejects the definition, with its reason, or there is no such token.
    """

    kind = "huggingface"
    cuts_at_spaces = False

    def __init__(
        self, definition: str, end_of_text: str | None, special_tokens: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.definition = definition
        self.plain_definition = without_additions(definition)
        """The definition after normalization, as passed to the library."""
        self._tokenizer = _run_by_library(self.plain_definition)
        self._n_tokens = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        if not self._n_tokens:
            raise ValueError("it has no tokens")
        self.end_token = end_of_text
        self.end_of_text = None if end_of_text is None else self._tokenizer.token_to_id(end_of_text)
        if end_of_text is not None and self.end_of_text is None:
            raise ValueError(f"it has no token {end_of_text!r}, which is named as the end of text")
        self.special_tokens = {
            name: text
            for name, text in special_tokens.items()
            if name in SPECIAL_TOKENS
            and self.token_id(text) is not None  # Hugging Face would add a token to the vocabulary
        }
        self._added = {i: token.content for i, token in self._tokenizer.get_added_tokens_decoder().items()}
        self._byte_of = byte_of_character()
        self._decoders = set(_types(self.plain_definition.get("decoder")))

    @property
    def vocab_size(self) -> int:
        """The highest id plus one; lower ids without a token are possible."""
        return self._n_tokens

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        return self._encode(text, self._tokenizer)

    def encode_with_special_tokens(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        return self._encode(text, self._recognizing_special_tokens)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(
                [_without_surrogates(text) for text in texts], add_special_tokens=False
            )
        except Exception as error:
            raise UserError(f"the tokenizer cannot encode one of the texts: {error}") from None
        return [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def token_id(self, text: str) -> int | None:
        """Return the id of a token as it is written in the definition; None if there is none."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds within a text, with the preceding space if the token has one."""
        if token in self._added:
            return self._added[token].encode()
        written = self._tokenizer.id_to_token(token)
        if written is None:
            return b""
        if "ByteLevel" in self._decoders and self._byte_of.keys() >= set(written):
            return bytes(self._byte_of[character] for character in written)
        if "ByteFallback" in self._decoders and (byte := _BYTE.fullmatch(written)):
            return bytes.fromhex(byte[1])
        before, after = self.decode([self._beginning]), self.decode([self._beginning, token])
        return (after.removeprefix(before) if after.startswith(before) else self.decode([token])).encode()

    def fields(self) -> dict[str, Any]:
        names = {"special_tokens": self.special_tokens} if self.special_tokens else {}
        return {"definition": self.definition, "end_of_text": self.end_token, **names}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)

    def _encode(self, text: str, tokenizer: tokenizers.Tokenizer) -> NDArray[np.unsignedinteger[Any]]:
        try:
            encoding = tokenizer.encode(_without_surrogates(text), add_special_tokens=False)
        except Exception as error:  # the library raises nothing more precise
            raise UserError(f"the tokenizer cannot encode the text: {error}") from None
        return np.array(encoding.ids, dtype=self.dtype)

    @functools.cached_property
    def _recognizing_special_tokens(self) -> tokenizers.Tokenizer:
        """The tokenizer with the special tokens of the definition and those that the configuration names."""
        tokenizer = _run_by_library(self.plain_definition)
        tokenizer.encode_special_tokens = False
        added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        named = [*([] if self.end_token is None else [self.end_token]), *self.special_tokens.values()]
        tokenizer.add_special_tokens([token for token in named if token not in added])
        return tokenizer

    @functools.cached_property
    def _beginning(self) -> int:
        """A token that can begin a text: the first one of letters or digits."""
        ids = range(self._n_tokens)
        return next((i for i in ids if i not in self._added and self.decode([i]).strip().isalnum()), 0)


def from_corpus(texts: Iterable[str], several_documents: bool, path: PathText) -> HuggingFaceTokenizer:
    """Load a tokenizer from Hugging Face's files, independent of the training text.

    Args:
        texts: training text, not read.
        several_documents: whether the text has document boundaries, not used.
        path: a `tokenizer.json`, or a folder that contains one; see `load`.

    Raises:
        UserError: if a file is missing or invalid, with the reason, or the library `tokenizers` is not installed.
    """
    return load(Path(path).expanduser())


def load(path: Path) -> HuggingFaceTokenizer:
    """Load the tokenizer of a `tokenizer.json`, or of a folder that contains one.

    The end-of-text token is the `eos_token` of `tokenizer_config.json`, if the path is a folder with that file;
    otherwise the first of `ENDS_OF_TEXT` that is a special token.

    Raises:
        UserError: see `from_corpus`.
    """
    file, named = (path / FILE, special_tokens(path)) if path.is_dir() else (path, {})
    definition = read_text(file)
    try:
        end = end_of_text(without_additions(definition), named.get(END_NAME))
        return HuggingFaceTokenizer(definition, end, named)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} cannot be used as a tokenizer of Hugging Face's: {error}") from None


def end_of_text(definition: dict[str, Any], named: str | None) -> str | None:
    """Return the end-of-text token: that of the configuration, else the first of `ENDS_OF_TEXT`, else None."""
    special = {token["content"] for token in definition.get("added_tokens") or [] if token.get("special")}
    return named or next((token for token in ENDS_OF_TEXT if token in special), None)


def special_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that a folder's configuration names: `eos_token` and those of `SPECIAL_TOKENS`.

    Early folders name them in `special_tokens_map.json`.

    Raises:
        UserError: if a file cannot be read or is not a JSON object.
    """
    found: dict[str, str] = {}
    for file in (folder / MAP_FILE, folder / CONFIG_FILE):
        if not file.exists():
            continue
        try:
            fields = json_text.loads(read_text(file))
            tokens = {name: fields.get(name) for name in (END_NAME, *SPECIAL_TOKENS)}
            texts = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()}
        except (AttributeError, KeyError, ValueError) as error:
            raise UserError(f"{file} is no configuration of a tokenizer: {error}; mend it or take it away") from None
        found |= {name: text for name, text in texts.items() if isinstance(text, str)}
    return found


def without_additions(definition: str) -> dict[str, Any]:
    """Parse a `tokenizer.json`, and disable everything that depends on more than the characters of the text.

    Raises:
        ValueError: if it is not a JSON object with a model.
    """
    plain = json_text.loads(definition)
    if not isinstance(plain, dict) or not isinstance(plain.get("model"), dict):
        raise ValueError("it is no JSON object with a model")
    model = plain["model"] | ({"dropout": None} if "dropout" in plain["model"] else {})
    return {**plain, "model": model, "truncation": None, "padding": None, "post_processor": None}


def read_text(file: Path) -> str:
    """Read a file of UTF-8 text.

    Raises:
        UserError: if the file is missing, cannot be read, is too large or is not UTF-8.
    """
    try:
        return read_whole(file).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no UTF-8 text (byte {error.start}); check the path") from None


def _run_by_library(definition: dict[str, Any]) -> tokenizers.Tokenizer:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "a tokenizer of Hugging Face's needs their library: pip install gpt2-lightning[huggingface]"
        ) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(str(error)) from None
    tokenizer.encode_special_tokens = True  # do not recognize special tokens in a text
    return tokenizer


def _types(part: dict[str, Any] | None) -> Iterator[str]:
    """Yield the type of a part of a definition; of a sequence, also those of its elements."""
    if part:
        yield part["type"]
        for inner in part.get("decoders", []):
            yield from _types(inner)


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot express, by U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
