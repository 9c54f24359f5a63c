"""All attention measurements of one checkpoint on one text."""

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
    """Measurements of one checkpoint on one text."""

    name: str
    """Display name of the checkpoint."""
    reading: Reading
    scores: dict[str, Tensor]
    """Scores of the heads on the text, (L, H) each; see `SCORES`."""
    repeated_scores: dict[str, Tensor]
    """The same on `repeated_sequence`; NaN where there is none."""
    effects: Sequence[AblationEffect]
    """Effects of ablating each head, in descending order of the loss; empty without ablation."""

    def head_of_interest(self, layer: int | None = None) -> tuple[int, int]:
        """Layer and head with the highest induction score on the repeated sequence, among all heads or in one layer."""
        score = self.repeated_scores["induction"].nan_to_num(0.0)
        if layer is None:
            layer = int(score.max(dim=1).values.argmax())
        return layer, int(score[layer].argmax())


def measure_attention(
    model: GPT2, ids: Tensor, repeated: Tensor, name: str, ablate: bool = False
) -> AttentionMeasurement:
    """Measure the attention of a model.

    Args:
        model: in evaluation mode; attention is computed in the dtype of its weights.
        ids: the text, (T,).
        repeated: the ids of `repeated_sequence`, (S,); may be empty.
        name: display name of the model.
        ablate: whether to ablate each head in turn, at the cost of a forward pass for each.
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
