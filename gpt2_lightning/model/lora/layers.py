"""Low-rank adaptation: a small trained addition to linear layers that stay as they are (Hu et al. 2021).

Here are the settings and the layer; `adapters` puts it into a model.
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
"""What may be adapted, and the linear layer that it is or is a part of: of the model for the head, else of a block."""
THIRDS = ("q", "k", "v")
"""Targets that are a third of their layer's outputs, in this order."""


@dataclass(frozen=True)
class LoRASpec(Settings):
    """The settings of an adapter.

    Raises:
        ValueError: with every violated invariant, a line each, as "field: what is wrong".
    """

    rank: PositiveInt = 8
    """Inner width r of the addition."""
    alpha: PositiveFloat = 16.0
    """Strength of the addition, which is multiplied by alpha / r."""
    dropout: BelowOne = 0.0
    """Dropout probability, in training, of what the addition reads; the layer itself reads all of it."""
    targets: Sequence[Annotated[str, OneOf(TARGETS)]] = ("q", "k", "v", "attn_out")
    """Names in `TARGETS`. q, k and v have a pair of matrices each; qkv has one pair for all three, as in PEFT."""
    rank_stabilised: bool = False
    """Multiply by alpha / sqrt(r) instead, so that large ranks learn as fast (rsLoRA, Kalajdzievski 2023)."""

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
        """What the addition is multiplied by: alpha / r (Hu et al. 2021, section 4.1), in rsLoRA alpha / sqrt(r)."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LowRank(nn.Module):
    """What an adapter adds to a layer: scale * B A x, for each of its targets there (Hu et al. 2021, equation 3).

    B starts at 0, so that nothing changes at first. A starts uniform within ±1 / sqrt(in), which is Kaiming's with
    a = sqrt(5): as in PEFT and in the authors' code, where the paper says normal.
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
        """Each target with its A (rank, in) and its B (out, rank)."""
        for target, a in self.lora_A.items():
            yield target, a, self.lora_B[target]


class LoRALinear(Linear):
    """The layer that it replaces, with the same weights under the same names, and adapters, of which one is in use."""

    def __init__(self, layer: Linear) -> None:
        with on_meta_device():
            super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)
        self.adapters = nn.ModuleDict()
        self.in_use: str | None = None
        self.merged: str | None = None
        """The adapter that is in the weight, if any; it then is not in use."""
        self.was_tied = False
        """Whether the weight was the embedding's before the merge."""

    def adapter(self, name: str) -> LowRank:
        adapter = self.adapters[name]
        assert isinstance(adapter, LowRank)
        return adapter

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)  # (..., out)
        if self.in_use is None:
            return y
        adapter = self.adapter(self.in_use)
        x = F.dropout(x, adapter.spec.dropout, self.training)
        for target, a, b in adapter.pairs():
            narrow = F.linear(x, a) * adapter.spec.scale  # (..., rank)
            y[..., rows(target, self.out_features)].add_(F.linear(narrow, b))
        return y

    @torch.no_grad()
    def merge(self) -> None:
        """Add the adapter in use to the weight: W + scale * B A."""
        assert self.in_use is not None
        self._add_to_weight(self.adapter(self.in_use), sign=+1)
        self.merged, self.in_use = self.in_use, None

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take it away again."""
        assert self.merged is not None
        self._add_to_weight(self.adapter(self.merged), sign=-1)
        self.merged, self.in_use = None, self.merged

    def _add_to_weight(self, adapter: LowRank, sign: int) -> None:
        for target, a, b in adapter.pairs():
            change = b.float() @ a.float() * adapter.spec.scale  # (out, in); rounded once, when it is added
            self.weight[rows(target, self.out_features)].add_(change, alpha=sign)


def rows(target: str, n_out: int) -> slice:
    """The outputs of its layer that a target adapts: q, k and v a third of them, the others all."""
    if target not in THIRDS:
        return slice(0, n_out)
    third = n_out // 3
    start = third * THIRDS.index(target)
    return slice(start, start + third)


def layers_of(spec: LoRASpec, n_layer: int) -> dict[str, list[str]]:
    """The names of all layers that an adapter changes, each with its targets there."""
    found: dict[str, list[str]] = {}
    for target in spec.targets:
        place = TARGETS[target]
        for name in [HEAD] if place == HEAD else [f"h.{i}.{place}" for i in range(n_layer)]:
            found.setdefault(name, []).append(target)
    return found
