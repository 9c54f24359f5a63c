"""Optimizers. To add one: a frozen dataclass with `build` here, and a YAML in `conf/optimizer`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from gpt2_lightning.settings import BelowOne, PositiveFloat, Settings, relation
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
class AdamW(Settings):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), by torch's fused kernel.

    Raises:
        ValueError: with every setting that is out of range.
    """

    lr: PositiveFloat
    """Peak learning rate; the schedule scales it."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)
    """Decay rates of the two moments."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Ge(0)] = 0.1
    """Decay of matrices; biases and norms have none."""
    groups: Exceptions = field(default_factory=dict)
    """Other settings for some parameters, as in {wte: {lr_scale: 0.5, weight_decay: 0}}."""

    @relation
    def _groups_are_named(self) -> Iterator[str]:
        if "" in self.groups:
            yield "groups: '' is no name; what holds for all parameters is set outside of groups"

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

    muon_lr: PositiveFloat = 0.02
    """Peak learning rate; the schedule scales it, too."""
    muon_weight_decay: Annotated[float, Ge(0)] = 0.1
    """Decay, which is multiplied by the learning rate, as AdamW's is."""
    momentum: BelowOne = 0.95
    """Decay rate of the mean of gradients."""
    nesterov: bool = True
    """Whether the newest gradient counts once more beside that mean."""
    ns_steps: Annotated[int, Interval(ge=1, le=99)] = 5
    """Steps of the iteration."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """What the learning rate of an A × B matrix is multiplied by: sqrt(max(1, A / B)), as by Jordan et al., or
    0.2 sqrt(max(A, B)), with which AdamW's learning rate and decay fit (Liu et al. 2025, section 2.2)."""

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
