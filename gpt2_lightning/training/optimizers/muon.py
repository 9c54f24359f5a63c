"""Muon for the matrices of the blocks, and AdamW for all other parameters, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from gpt2_lightning.settings import BelowOne, NonNegativeFloat, PositiveFloat
from gpt2_lightning.training.optimizers.adamw import AdamW
from gpt2_lightning.training.optimizers.parameter_groups import grouped, matrices_in_blocks, matrix_or_vector


@dataclass(frozen=True)
class Muon(AdamW):
    """Muon for the matrices of the blocks (Jordan et al. 2024), AdamW for embeddings, heads, biases and norms.

    The update of a matrix is a running mean of its gradients, orthogonalized by a few Newton-Schulz iterations. The
    projections of queries, keys and values share one matrix; each third is orthogonalized separately, which Jordan et
    al. found to work better ("Empirical considerations").

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    supports_sharding: ClassVar[bool] = False  # the iteration needs whole matrices

    muon_lr: PositiveFloat = 0.02
    """Peak learning rate of Muon; the schedule scales it as well."""
    muon_weight_decay: NonNegativeFloat = 0.1
    """Weight decay of Muon, multiplied by the learning rate as in AdamW."""
    momentum: BelowOne = 0.95
    """Momentum: decay rate of the running mean of gradients."""
    nesterov: bool = True
    """Whether to use Nesterov momentum."""
    ns_steps: Annotated[int, Interval(ge=1, le=99)] = 5
    """Number of Newton-Schulz iterations."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """Factor of the learning rate of an A × B matrix: sqrt(max(1, A / B)), as in Jordan et al., or 0.2 sqrt(max(A, B)),
    with which the learning rate and weight decay of AdamW can be used (Liu et al. 2025, section 2.2)."""

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


class MuonAdamW(torch.optim.Optimizer):
    """Step groups with `algorithm="muon"` by torch's Muon, and groups with `"adamw"` by torch's fused AdamW.

    Both share the groups and the state of this optimizer, so that it has one step, one gradient norm and one state
    dict. A Muon group has `parts`, the number of matrices stacked along the rows of each of its parameters.

    Args:
        groups: parameter groups, with their algorithm and those of its settings that differ from torch's defaults.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        muon = [group for group in groups if group["algorithm"] == "muon"]
        adamw = [group for group in groups if group["algorithm"] == "adamw"]
        self._muon, self._adamw = _DividingMuon(muon), torch.optim.AdamW(adamw, fused=True)
        super().__init__(groups, {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        for algorithm, optimizer in (("muon", self._muon), ("adamw", self._adamw)):
            optimizer.param_groups = [group for group in self.param_groups if group["algorithm"] == algorithm]
            optimizer.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss


class _DividingMuon(torch.optim.Muon):
    """Muon that orthogonalizes each of the matrices stacked in a parameter separately."""

    def _init_group(
        self,
        group: MutableMapping[str, Any],
        params_with_grad: list[Tensor],
        grads: list[Tensor],
        muon_momentum_bufs: list[Tensor],
    ) -> bool:
        whole: tuple[list[Tensor], ...] = ([], [], [])
        has_complex = super()._init_group(group, *whole)
        for divided, tensors in zip((params_with_grad, grads, muon_momentum_bufs), whole, strict=True):
            divided.extend(part for tensor in tensors for part in tensor.chunk(group["parts"]))
        return has_complex
