"""The AdamW optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Gt
from torch import nn

from gpt2_lightning.settings import BelowOne, NonNegativeFloat, PositiveFloat, relation
from gpt2_lightning.training.optimizers.base import OptimizerSpec
from gpt2_lightning.training.optimizers.parameter_groups import Exceptions, parameter_groups


@dataclass(frozen=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), by torch's fused kernel.

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    lr: PositiveFloat
    """Peak learning rate; the schedule scales it."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)
    """Decay rates of the first and second moments."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """Term added to the denominator for numerical stability."""
    weight_decay: NonNegativeFloat = 0.1
    """Weight decay of matrices; biases and norms have none."""
    groups: Exceptions = field(default_factory=dict)
    """Settings of some parameters that differ, as in {wte: {lr_scale: 0.5, weight_decay: 0}}."""

    @relation
    def _groups_are_named(self) -> Iterator[str]:
        if "" in self.groups:
            yield "groups: '' is no name; what holds for all parameters is set outside of groups"

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay, self.groups)
        groups = [group | {"lr": self.lr * group["lr_scale"]} for group in groups]
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=True)
