"""Everything that is measured of one checkpoint with one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.inspection.attention.ablation import AblationEffect, ablate_heads
from gpt2_lightning.inspection.attention.reading import Reading, attention_weights, read
from gpt2_lightning.inspection.attention.scores import SCORES, head_scores
from gpt2_lightning.model import GPT2


@dataclass(frozen=True)
class AttentionMeasurement:
    """One checkpoint and what it does with a text."""

    name: str
    """What readers call the checkpoint."""
    reading: Reading
    scores: dict[str, Tensor]
    """Scores of the heads on the text, (L, H) each; see `SCORES`."""
    repeated_scores: dict[str, Tensor]
    """The same on `repeated_sequence`; NaN where there is none."""
    effects: Sequence[AblationEffect]
    """What switching each head off changes, the worst loss first; empty where it was not tried."""

    def head_of_interest(self, layer: int | None = None) -> tuple[int, int]:
        """Layer and head of the highest induction score on the repeated sequence, among all or in one layer."""
        score = self.repeated_scores["induction"].nan_to_num(0.0)
        if layer is None:
            layer = int(score.max(dim=1).values.argmax())
        return layer, int(score[layer].argmax())


def measure_attention(
    model: GPT2, ids: Tensor, repeated: Tensor, name: str, ablate: bool = False
) -> AttentionMeasurement:
    """Measure a model.

    Args:
        model: in evaluation mode; attention is computed in the type of its weights.
        ids: the text, (T,).
        repeated: the ids of `repeated_sequence`, or none.
        name: what readers call it.
        ablate: whether to switch off each head in turn, which costs a pass for each.
    """
    reading = read(model, ids)
    if len(repeated):
        repeated_scores = head_scores(attention_weights(model, repeated), repeated)
    else:
        repeated_scores = dict.fromkeys(SCORES, torch.full(reading.weights.shape[:2], torch.nan))
    return AttentionMeasurement(
        name=name,
        reading=reading,
        scores=head_scores(reading.weights, reading.ids),
        repeated_scores=repeated_scores,
        effects=ablate_heads(model, ids) if ablate else [],
    )
