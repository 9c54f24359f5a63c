"""Low-rank adaptation: a small trainable term added to frozen linear layers (Hu et al. 2021).

Settings and layers; `adapters` inserts them into a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.meta import on_meta_device
from gpt2_lightning.settings import BelowOne, OneOf, PositiveFloat, PositiveInt, Settings, relation

HEAD = "lm_head"
TARGETS = {
    "q": "attn.c_attn",
    "k": "attn.c_attn",
    "v": "attn.c_attn",
    "qkv": "attn.c_attn",
    "attn_out": "attn.c_proj",
    "mlp_up": "mlp.c_fc",
    "mlp_down": "mlp.c_proj",
    "head": HEAD,
}
"""Names of targets, and the linear layer that each is or is a part of: of the model for the head, else of a block."""
THIRDS = ("q", "k", "v")
"""Targets that are one third of their layer's outputs, in this order."""


@dataclass(frozen=True)
class LoRASpec(Settings):
    """The settings of an adapter.

    Raises:
        ValueError: with every violated invariant, a line each, as "field: what is wrong".
    """

    rank: PositiveInt = 8
    """Rank r of the added term."""
    alpha: PositiveFloat = 16.0
    """The added term is scaled by alpha / r."""
    dropout: BelowOne = 0.0
    """Dropout probability, in training, of the input of the added term; the layer itself gets the whole input."""
    targets: Sequence[Annotated[str, OneOf(TARGETS)]] = ("q", "k", "v", "attn_out")
    """Names in `TARGETS`. q, k and v have a pair of matrices each; qkv has one pair for all three, as in PEFT."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(r) instead, which keeps large ranks trainable (rsLoRA, Kalajdzievski 2023)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))  # a YAML gives a list
        super().__post_init__()

    @relation
    def _targets_do_not_overlap(self) -> Iterator[str]:
        if not self.targets:
            yield f"targets: none is given; name one or more of {', '.join(TARGETS)}"
        if len(set(self.targets)) < len(self.targets):
            yield f"targets: a name comes twice in {', '.join(self.targets)}"
        if "qkv" in self.targets and (parts := [target for target in self.targets if target in THIRDS]):
            yield f"targets: qkv adapts {' and '.join(parts)} already; name either"

    @property
    def scale(self) -> float:
        """Factor of the added term: alpha / r (Hu et al. 2021, section 4.1), in rsLoRA alpha / sqrt(r)."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LowRank(nn.Module):
    """The term that an adapter adds to a layer: scale * B A x for each target (Hu et al. 2021, equation 3).

    B is initialized to 0, so that the output does not change at first. A is uniform within ±1 / sqrt(in), Kaiming's
    initialization with a = sqrt(5), as in PEFT and in the authors' code; the paper states a normal distribution.
    """

    def __init__(self, weight: Tensor, spec: LoRASpec, targets: Sequence[str]) -> None:
        super().__init__()
        self.spec = spec
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        for target in targets:
            n_out, n_in = weight[rows(target, weight.size(0))].shape
            self.lora_A[target] = nn.Parameter(weight.new_empty(spec.rank, n_in))
            self.lora_B[target] = nn.Parameter(weight.new_zeros(n_out, spec.rank))
            nn.init.kaiming_uniform_(self.lora_A[target], a=math.sqrt(5))

    def pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield each target with its A (rank, in) and its B (out, rank)."""
        for target, a in self.lora_A.items():
            yield target, a, self.lora_B[target]


class LoRALinear(Linear):
    """A linear layer with adapters, at most one of them active. Its weight and bias keep their names."""

    def __init__(self, layer: Linear) -> None:
        with on_meta_device():
            super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self.merged: str | None = None
        """The adapter that is merged into the weight, if any; it then is not active."""
        self.was_tied = False
        """Whether the weight was shared with the embedding before the merge."""

    def adapter(self, name: str) -> LowRank:
        adapter = self.adapters[name]
        assert isinstance(adapter, LowRank)
        return adapter

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)  # (..., out)
        if self.active is None:
            return y
        adapter = self.adapter(self.active)
        x = F.dropout(x, adapter.spec.dropout, self.training)
        for target, a, b in adapter.pairs():
            narrow = F.linear(x, a) * adapter.spec.scale  # (..., rank)
            y[..., rows(target, self.out_features)].add_(F.linear(narrow, b))
        return y

    @torch.no_grad()
    def merge(self) -> None:
        """Add the active adapter to the weight: W + scale * B A."""
        assert self.active is not None
        self._add_to_weight(self.adapter(self.active), sign=+1)
        self.merged, self.active = self.active, None

    @torch.no_grad()
    def unmerge(self) -> None:
        """Subtract the merged adapter from the weight."""
        assert self.merged is not None
        self._add_to_weight(self.adapter(self.merged), sign=-1)
        self.merged, self.active = None, self.merged

    def _add_to_weight(self, adapter: LowRank, sign: int) -> None:
        for target, a, b in adapter.pairs():
            change = b.float() @ a.float() * adapter.spec.scale  # (out, in); rounded once, by the addition
            self.weight[rows(target, self.out_features)].add_(change, alpha=sign)


def rows(target: str, n_out: int) -> slice:
    """Outputs of its layer that a target adapts: one third for q, k and v, all for the others."""
    if target not in THIRDS:
        return slice(0, n_out)
    third = n_out // 3
    start = third * THIRDS.index(target)
    return slice(start, start + third)


def adapted_layers(spec: LoRASpec, n_layer: int) -> dict[str, list[str]]:
    """Names of all layers that an adapter changes, each with its targets."""
    found: dict[str, list[str]] = {}
    for target in spec.targets:
        place = TARGETS[target]
        for name in [HEAD] if place == HEAD else [f"h.{i}.{place}" for i in range(n_layer)]:
            found.setdefault(name, []).append(target)
    return found
