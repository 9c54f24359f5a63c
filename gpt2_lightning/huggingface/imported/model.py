"""A model that another program saved, as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class ImportedModel:
    """What was read, and what a reader of it should know."""

    model: GPT2
    """Holds copies of the weights, in their dtype."""
    network: ReferenceGPT2
    """The tensors as they are in the file, and the arithmetic that is meant with them."""
    tokenizer: Tokenizer | None
    """None where the file knows of none."""
    origin: dict[str, Any]
    """Plain values: the program, the place, what else its file says of the model."""
    notes: tuple[str, ...] = ()
    """What was done on the way, a sentence each."""
