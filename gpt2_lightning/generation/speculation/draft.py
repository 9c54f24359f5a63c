"""The choice of a drafter."""

from __future__ import annotations

from typing import Literal

from gpt2_lightning.generation.reader import Reader
from gpt2_lightning.generation.sampling import Sampler
from gpt2_lightning.generation.speculation.drafter import Drafter
from gpt2_lightning.generation.speculation.lookup import Lookup
from gpt2_lightning.generation.speculation.model_draft import ModelDraft
from gpt2_lightning.model import GPT2

Draft = GPT2 | Literal["lookup"]
"""What drafts tokens: a smaller model with the same vocabulary, or the text itself."""


def drafter(draft: Draft, reader: Reader, sampler: Sampler) -> Drafter:
    """Create the drafter of a batch; see `SpeculativeSteps`."""
    if isinstance(draft, GPT2):
        return ModelDraft(draft, reader, sampler)
    return Lookup(len(reader.cache.lengths))
