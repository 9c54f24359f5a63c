"""Several corpora in one training run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.corpus import Corpus, Documents
from gpt2_lightning.settings import PositiveFloat, Settings, relation


@dataclass(frozen=True, kw_only=True)
class Mix(Settings):
    """Corpora in fixed shares of the samples; validation is over all of their validation parts.

    Raises:
        ValueError: if weights and corpora do not fit.
    """

    corpora: dict[str, Corpus | TokenFiles]
    """Each with its own settings."""
    weights: dict[str, PositiveFloat] = field(default_factory=dict)
    """Shares of the samples, of any sum; what is not named has weight 1."""
    documents: Documents = "joined"
    """How windows treat documents; see `corpus.Corpus`. That of the mix rules."""

    @relation
    def _weights_name_corpora(self) -> Iterator[str]:
        for name in self.weights:
            if name not in self.corpora:
                yield f"weights.{name}: there is no corpus of this name; there are {', '.join(self.corpora)}"

    @relation
    def _several_corpora(self) -> Iterator[str]:
        if len(self.corpora) < 2:
            yield f"corpora: there are {len(self.corpora)}, 2 or more make a mix"

    def weight_of(self, name: str) -> float:
        return self.weights.get(name, 1.0)
