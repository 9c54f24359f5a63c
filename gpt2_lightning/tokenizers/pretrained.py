"""The tokenizer of a trained model, when the model is trained further."""

from __future__ import annotations

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.char import CharTokenizer, Unknown
from gpt2_lightning.tokenizers.tokenizer import Tokenizer


def from_pretrained(tokenizer: Tokenizer, unknown: Unknown | None = None) -> Tokenizer:
    """Return the tokenizer of a trained model.

    Args:
        tokenizer: the tokenizer of the model.
        unknown: another handling of characters outside the alphabet of a character tokenizer; None to keep it.

    Raises:
        UserError: if the tokenizer has no alphabet, or the handling needs another token.
    """
    if unknown is None:
        return tokenizer
    if not isinstance(tokenizer, CharTokenizer):
        raise UserError(
            f"tokenizer.unknown: {unknown} is for character tokenizers, and that of the model is of kind "
            f"{tokenizer.kind}; leave it out"
        )
    changed = CharTokenizer(tokenizer.alphabet, unknown, tokenizer.end_of_text is not None)
    if changed.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer.unknown: {unknown} adds U+FFFD to the alphabet, and the model has no embedding for it; choose "
            "substitute, skip or error"
        )
    return changed
