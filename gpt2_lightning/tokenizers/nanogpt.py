"""Characters of nanoGPT's `meta.pkl`, read without running the pickle's code."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import read_whole
from gpt2_lightning.tokenizers.char import CharTokenizer

META = "meta.pkl"
"""Name of the file beside the token files of a character corpus."""
_MOST_BYTES = 2**24
_PLAIN = {
    *("PROTO", "FRAME", "STOP"),
    *("EMPTY_DICT", "MARK", "SETITEM", "SETITEMS"),
    *("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
"""Operations of a pickle that make dictionaries of numbers and texts. None names, imports or calls anything."""


def read_characters(file: Path) -> CharTokenizer:
    """Return the tokenizer of nanoGPT's `meta.pkl`.

    Raises:
        UserError: if the file cannot be read, contains more than plain values, or maps ids to anything but characters
            in the order of their code points.
    """
    remedy = "make its token files again from the text with data=text"
    try:
        characters = _plain_values(read_whole(file, _MOST_BYTES))["itos"]
        alphabet = "".join(characters[i] for i in range(len(characters)))
    except (ValueError, KeyError, TypeError, IndexError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} is no vocabulary of nanoGPT's: {error!s}; {remedy}") from None
    if len(alphabet) != len(characters) or list(alphabet) != sorted(set(alphabet)):
        raise UserError(
            f"{file} has tokens that are not single characters in the order of their code points, and the character "
            f"tokenizer has no others; {remedy}"
        )
    return CharTokenizer(alphabet)


def _plain_values(content: bytes) -> Any:
    """Unpickle content that consists of dictionaries, numbers and texts only.

    Raises:
        ValueError: if there is anything else.
        pickle.UnpicklingError: if the content is damaged.
    """
    for operation, argument, place in pickletools.genops(content):
        if operation.name not in _PLAIN:
            raise ValueError(f"it contains {operation.name} at byte {place}, and only numbers and texts are read")
        if operation.name == "LONG_BINPUT" and (argument or 0) > len(content):
            raise ValueError(f"it has an index of {argument:,} at byte {place}")  # the library would allocate as much
    return pickle.loads(content)  # its operations make plain values only
