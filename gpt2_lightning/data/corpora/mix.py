"""Mix of several corpora."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.corpora.web import Remote
from gpt2_lightning.data.corpus import Corpus, Documents
from gpt2_lightning.settings import PositiveFloat, Settings, relation


@dataclass(frozen=True, kw_only=True)
class Mix(Settings):
    """Corpora in fixed shares of the training samples; validation uses all of their validation parts.

    Raises:
        ValueError: if weights name unknown corpora, or there are fewer than two corpora.
    """

    corpora: dict[str, Corpus | TokenFiles | Remote]
    """Corpora by name."""
    weights: dict[str, PositiveFloat] = field(default_factory=dict)
    """Relative shares of the samples by name; the default weight is 1."""
    documents: Documents = "joined"
    """Treatment of document boundaries in windows, see `corpus.Corpus`; overrides that of the corpora."""

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
