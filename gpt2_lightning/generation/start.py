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
    try:
        ids = tokenizer.encode(prompt or _NEW_LINE)
    except UserError as error:
        if prompt:
            raise UserError(f"in the prompt: {error}") from None
        return torch.zeros(1, dtype=torch.int64)
    return torch.from_numpy(ids.astype(np.int64))
