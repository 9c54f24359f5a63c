"""Result of importing a model of another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class ImportedModel:
    """A model read from the files of another program."""

    model: GPT2
    """Model with copies of the weights in their dtype."""
    network: ReferenceGPT2
    """Model with the tensors of the file and the other program's arithmetic, to verify `model`."""
    tokenizer: Tokenizer | None
    """Tokenizer; None if the files have none."""
    origin: dict[str, Any]
    """Plain values: the program, the source, and the training settings and metrics in its files."""
    eos_token_ids: tuple[int, ...] = ()
    """Ids at which the other program ends a text, where its files name them."""
    notes: tuple[str, ...] = ()
    """Changes made in reading the model, one sentence each."""
