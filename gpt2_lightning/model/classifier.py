"""GPT-2 with a classification head."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gpt2_lightning.model.gpt2 import GPT2

Pooling = Literal["last", "first", "mean"]
"""Features of a text that a classifier scores: those of its last token, of its first, or the mean over its tokens."""


class Classifier(nn.Module):
    """GPT-2 with a linear layer that scores labels (Radford et al. 2018, section 3.2, without its special tokens).

    Parameters have the names of Hugging Face's GPT2ForSequenceClassification, which pools the last token. The head of
    the language model is kept and unused; where it has a weight of its own, this is frozen.

    Args:
        transformer: the language model, which is not copied.
        labels: number of scores of a text.
        pooling: only the last token attends to the whole text; the first attends to itself.

    Raises:
        ValueError: if labels is below 1, or pooling is not one of the three.
    """

    def __init__(self, transformer: GPT2, labels: int, pooling: Pooling = "last") -> None:
        super().__init__()
        if labels < 1:
            raise ValueError(f"labels: {labels} is out of range, 1 or more is allowed")
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling: '{pooling}' is not one of {', '.join(get_args(Pooling))}")
        self.transformer = transformer
        self.pooling = pooling
        weight = transformer.wte.weight
        self.score = nn.Linear(transformer.config.n_embd, labels, bias=False, device=weight.device, dtype=weight.dtype)
        nn.init.normal_(self.score.weight, std=transformer.config.initializer_range)
        if not transformer.config.tied_head:
            transformer.lm_head.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Score texts. Scores do not depend on padding, which takes no room in the context.

        Args:
            ids: token ids, (B, T), int64; padding may be any id.
            mask: True for tokens of the text, False for padding, bool, (B, T).

        Returns:
            Logits of shape (B, labels).

        Raises:
            ValueError: if a text has no token, or is longer than `block_size`.
        """
        lengths = mask.sum(dim=1)  # (B,)
        shortest, longest = torch.stack(lengths.aminmax()).tolist()
        if shortest == 0:
            raise ValueError(f"row {int(lengths.argmin())} has no token to read; leave out empty texts")
        order = mask.int().argsort(dim=1, descending=True, stable=True)[:, :longest]  # tokens first, in their order
        features = self.transformer.features(ids.gather(1, order))  # (B, longest, C)
        return self.score(self._pool(features, lengths))

    def _pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pool features (B, T, C) to (B, C). Padding after a text has no effect, since attention is causal."""
        if self.pooling == "first":
            return features[:, 0]
        if self.pooling == "last":
            return features[torch.arange(len(features), device=features.device), lengths - 1]
        is_token = torch.arange(features.size(1), device=features.device) < lengths.unsqueeze(1)  # (B, T)
        return (features * is_token.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1)
