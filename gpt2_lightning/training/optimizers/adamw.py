"""Optimizers. To add one: a frozen dataclass with `build` here, and a YAML in `conf/optimizer`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from gpt2_lightning.training.optimizers.muon import MuonAdamW
from gpt2_lightning.training.optimizers.parameter_groups import (
    Exceptions,
    grouped,
    matrices_in_blocks,
    matrix_or_vector,
    parameter_groups,
)


class OptimizerSpec(Protocol):
    """The settings of an optimizer, and how to make it."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of all trained parameters of a model.

        A group may have `lr_scale`, a factor for its learning rate, and `rate`, the key under which that is logged.
        """


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
    groups: Exceptions = field(default_factory=dict)
    """Other settings for some parameters, as in {wte: {lr_scale: 0.5, weight_decay: 0}}."""

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        if not 0 < self.lr < math.inf:
            yield f"lr: {self.lr} is out of range, it must be above 0 and finite"
        if not all(0 <= beta < 1 for beta in self.betas):
            yield f"betas: {list(self.betas)} is out of range, 0 up to (not including) 1 is allowed"
        if not self.eps > 0:
            yield f"eps: {self.eps} is out of range, it must be above 0"
        if not self.weight_decay >= 0:
            yield f"weight_decay: {self.weight_decay} is out of range, 0 or more is allowed"
        for pattern, settings in self.groups.items():
            if not pattern:
                yield "groups: '' is no name; what holds for all parameters is set outside of groups"
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"groups: '{pattern}' is no regular expression: {error}"
            for name, value in settings.items():
                if not 0 <= value < math.inf:
                    yield f"groups: {name} {value} of '{pattern}' is out of range, it must be 0 or more and finite"

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay, self.groups)
        groups = [group | {"lr": self.lr * group["lr_scale"]} for group in groups]
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=True)


@dataclass(frozen=True)
class Muon(AdamW):
    """Muon for the matrices of the blocks (Jordan et al. 2024), AdamW for all else: embeddings, heads, biases, norms.

    A matrix moves by a mean of its gradients, made orthogonal by a few steps of Newton and Schulz's iteration. Queries,
    keys and values come from one matrix here, of which each third is made orthogonal by itself: Jordan et al. found
    that this works better ("Empirical considerations").

    Raises:
        ValueError: with every setting that is out of range.
    """

    muon_lr: float = 0.02
    """Peak learning rate; the schedule scales it, too."""
    muon_weight_decay: float = 0.1
    """Decay, which is multiplied by the learning rate, as AdamW's is."""
    momentum: float = 0.95
    """Decay rate of the mean of gradients."""
    nesterov: bool = True
    """Whether the newest gradient counts once more beside that mean."""
    ns_steps: int = 5
    """Steps of the iteration."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """What the learning rate of an A × B matrix is multiplied by: sqrt(max(1, A / B)), as by Jordan et al., or
    0.2 sqrt(max(A, B)), with which AdamW's learning rate and decay fit (Liu et al. 2025, section 2.2)."""

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not 0 < self.muon_lr < math.inf:
            yield f"muon_lr: {self.muon_lr} is out of range, it must be above 0 and finite"
        if not self.muon_weight_decay >= 0:
            yield f"muon_weight_decay: {self.muon_weight_decay} is out of range, 0 or more is allowed"
        if not 0 <= self.momentum < 1:
            yield f"momentum: {self.momentum} is out of range, 0 up to (not including) 1 is allowed"
        if not 1 <= self.ns_steps < 100:
            yield f"ns_steps: {self.ns_steps} is out of range, 1 to 99 is allowed"

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        of_parts = {1: "block", 3: "qkv"}
        in_blocks = {parameter: of_parts[parts] for parameter, parts in matrices_in_blocks(model).items()}
        others = {"algorithm": "adamw", "betas": self.betas, "eps": self.eps}
        muon = {
            "algorithm": "muon",
            "rate": "muon_lr",
            "lr_scale": self.muon_lr / self.lr,
            "weight_decay": self.muon_weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "ns_steps": self.ns_steps,
            "adjust_lr_fn": self.adjust_lr_fn,
        }
        kinds = {
            "matrix": {"weight_decay": self.weight_decay, **others},
            "vector": others,
            "block": {"parts": 1, **muon},
            "qkv": {"parts": 3, **muon},
        }
        groups = grouped(model, kinds, lambda p: in_blocks.get(p) or matrix_or_vector(p), self.groups)
        return MuonAdamW([group | {"lr": self.lr * group["lr_scale"]} for group in groups])


def state_bytes(spec: OptimizerSpec, model: nn.Module) -> int:
    """What an optimizer remembers of a model, in bytes, after its first step. Nothing is computed or kept.

    Args:
        model: may be on the meta device.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    optimizer = spec.build(model)
    with FakeTensorMode():
        for group in optimizer.param_groups:
            group["params"] = [torch.empty(p.shape, dtype=p.dtype, requires_grad=True) for p in group["params"]]
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        remembered = [value for state in optimizer.state.values() for value in state.values()]
        return sum(tensor.nbytes for tensor in remembered if isinstance(tensor, Tensor))
