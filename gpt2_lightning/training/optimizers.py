"""Optimizers. To add one: a frozen dataclass with `build` here, and a YAML in `conf/optimizer`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


class OptimizerSpec(Protocol):
    """The settings of an optimizer, and how to make it."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of all trained parameters of a model."""


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), by torch's fused kernel.

    Raises:
        ValueError: with every setting that is out of range.
    """

    lr: float
    """Peak learning rate; the schedule scales it."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.1
    """Decay of matrices; biases and norms have none."""

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.lr < math.inf:
            faults.append(f"lr: {self.lr} is out of range, it must be above 0 and finite")
        if not all(0 <= beta < 1 for beta in self.betas):
            faults.append(f"betas: {list(self.betas)} is out of range, 0 up to (not including) 1 is allowed")
        if not self.eps > 0:
            faults.append(f"eps: {self.eps} is out of range, it must be above 0")
        if not self.weight_decay >= 0:
            faults.append(f"weight_decay: {self.weight_decay} is out of range, 0 or more is allowed")
        if faults:
            raise ValueError("\n".join(faults))

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The trained parameters in two groups: matrices, which decay, and vectors (biases, norms), which do not.

    Every parameter lands in exactly one; a tied weight, which has two names, is one parameter.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
