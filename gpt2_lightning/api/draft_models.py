"""What drafts the tokens of speculative decoding, by the setting `speculate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel

LOOKUP: Literal["lookup"] = "lookup"


class DraftModels:
    """Smaller models that draft the tokens of a model; each is loaded once.

    Args:
        runs_dir: folder of all runs, for `latest`.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._loaded: dict[str, GPT2] = {}

    def find(self, speculate: str | None, model: LoadedModel) -> GPT2 | Literal["lookup"] | None:
        """What the setting `speculate` means; a smaller model is on the device of the model, in its dtype.

        Raises:
            UserError: if there is no such model, or it has another vocabulary.
        """
        if speculate is None:
            return None
        if speculate == LOOKUP:
            return LOOKUP
        if speculate not in self._loaded:
            draft = load_pretrained(speculate, LoadOptions(self._runs_dir, key="speculate"))
            _require_same_vocabulary(draft, model)
            weight = model.model.wte.weight
            self._loaded[speculate] = draft.model.to(weight.device, weight.dtype).eval()
        return self._loaded[speculate]


def _require_same_vocabulary(draft: LoadedModel, model: LoadedModel) -> None:
    """Require equal tokenizers; of models without one, vocabularies of one size."""
    hashes = [each.tokenizer.hash()[:16] if each.tokenizer else None for each in (draft, model)]
    sizes = [each.model.config.vocab_size for each in (draft, model)]
    if sizes[0] != sizes[1] or (None not in hashes and hashes[0] != hashes[1]):
        theirs, own = (f"{size:,} tokens (tokenizer {sha or 'none'})" for size, sha in zip(sizes, hashes, strict=True))
        places = f"{draft.location} has {theirs}, and {model.location} has {own}"
        raise UserError(f"speculate: {places}; a draft needs the same tokenizer")
