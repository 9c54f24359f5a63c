"""Several corpora in one training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.corpus import Corpus, Documents


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Corpora in fixed shares of the samples; validation is over all of their validation parts.

    Raises:
        ValueError: if weights and corpora do not fit.
    """

    corpora: dict[str, Corpus | TokenFiles]
    """Each with its own settings."""
    weights: dict[str, float] = field(default_factory=dict)
    """Shares of the samples, of any sum; what is not named has weight 1."""
    documents: Documents = "joined"
    """How windows treat documents; see `corpus.Corpus`. That of the mix rules."""

    def __post_init__(self) -> None:
        faults = [
            f"weights.{name}: there is no corpus of this name; there are {', '.join(self.corpora)}"
            for name in self.weights
            if name not in self.corpora
        ]
        faults += [
            f"weights.{name}: {weight} is out of range, a finite number above 0 is allowed"
            for name, weight in self.weights.items()
            if not 0 < weight < math.inf
        ]
        if len(self.corpora) < 2:
            faults.append(f"corpora: there are {len(self.corpora)}, 2 or more make a mix")
        if faults:
            raise ValueError("\n".join(faults))

    def weight_of(self, name: str) -> float:
        return self.weights.get(name, 1.0)
