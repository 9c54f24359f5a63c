"""Ids of a prompt."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer


def prompt_ids(prompt: str, tokenizer: Tokenizer, special_tokens: bool = False) -> Tensor:
    """Ids (T,), T >= 1, of a prompt; for an empty one see `empty_start`.

    Args:
        prompt: the prompt.
        tokenizer: the model's.
        special_tokens: whether names of special tokens in the prompt are encoded as these tokens.

    Raises:
        UserError: if characters of the prompt have no token, or none remains.
    """
    if not prompt:
        return torch.tensor([empty_start(tokenizer)[0]])
    try:
        ids = tokenizer.encode_with_special_tokens(prompt) if special_tokens else tokenizer.encode(prompt)
    except UserError as error:
        raise UserError(f"in the prompt: {error}") from None
    if not len(ids):
        raise UserError("in the prompt: none of its characters has a token; try another text")
    return torch.from_numpy(ids.astype(np.int64))


def empty_start(tokenizer: Tokenizer) -> tuple[int, str]:
    """The id from which an empty prompt starts, and its name.

    It is the end of text, which precedes documents; else a new line; else the first token of the tokenizer.
    """
    if tokenizer.end_of_text is not None:
        return tokenizer.end_of_text, "the end-of-text token"
    if tokenizer.encodes("\n"):
        return int(tokenizer.encode("\n")[0]), "a new line"
    return 0, "the tokenizer's first token"
