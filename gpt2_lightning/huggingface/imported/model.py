"""A model that another program saved."""

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
    """The network, with copies of the weights in their dtype."""
    network: ReferenceGPT2
    """The tensors as in the file, with the other program's arithmetic, to verify `model`."""
    tokenizer: Tokenizer | None
    """None if the files have none."""
    origin: dict[str, Any]
    """Plain values: the program, the source, and what its files record of the training."""
    notes: tuple[str, ...] = ()
    """What was changed in reading it, a sentence each."""
