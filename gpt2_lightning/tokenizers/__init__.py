"""Text to token ids and back. No torch in here.

A tokenizer is a `Tokenizer`. To add one: a file with a class that inherits from it and a function that makes it from
the training text, its kind in `_KINDS`, and a YAML in `conf/tokenizer` that names the function.
"""

from __future__ import annotations

import json

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.bpe import BPETokenizer
from gpt2_lightning.tokenizers.char import CharTokenizer
from gpt2_lightning.tokenizers.gpt2 import GPT2Tokenizer
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

_KINDS: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in (BPETokenizer, CharTokenizer, GPT2Tokenizer)}


def tokenizer_from_text(saved: str) -> Tokenizer:
    """The tokenizer that `to_text` saved.

    Raises:
        UserError: if the text is of no known kind.
    """
    try:
        fields = json.loads(saved)
    except json.JSONDecodeError:
        raise UserError("the checkpoint's tokenizer cannot be read: it is no JSON") from None
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise UserError(f"the checkpoint's tokenizer is of kind '{kind}'; this version knows {', '.join(_KINDS)}")
    return _KINDS[kind].from_fields(fields)


__all__ = ["BPETokenizer", "CharTokenizer", "GPT2Tokenizer", "Tokenizer", "tokenizer_from_text"]
