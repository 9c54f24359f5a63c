"""What a generation starts from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer

_NEW_LINE = "\n"


def prompt_ids(prompt: str, tokenizer: Tokenizer) -> Tensor:
    """Ids (T,) of a prompt; of a new line, where it is empty; of the tokenizer's first token, where it lacks that.

    Raises:
        UserError: if the prompt has characters that the tokenizer lacks.
    """
    if prompt:
        try:
            ids = tokenizer.encode(prompt)
        except UserError as error:
            raise UserError(f"in the prompt: {error}") from None
    else:
        try:
            ids = tokenizer.encode(_NEW_LINE)
        except UserError:
            ids = np.zeros(1)
    return torch.from_numpy(ids.astype(np.int64))
