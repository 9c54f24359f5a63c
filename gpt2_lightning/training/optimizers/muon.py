"""Muon for the matrices of the blocks, and AdamW for all other parameters, as one optimizer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from gpt2_lightning.settings import BelowOne, NonNegativeFloat, PositiveFloat
from gpt2_lightning.training.optimizers import orthogonalization
from gpt2_lightning.training.optimizers.adamw import AdamW
from gpt2_lightning.training.optimizers.matrix_layout import MatrixLayout, interleave, to_local
from gpt2_lightning.training.optimizers.orthogonalization import Coefficients, orthogonalize
from gpt2_lightning.training.optimizers.parameter_groups import grouped, matrices_in_blocks, matrix_or_vector

_MOST_ELEMENTS = 2**25
"""Elements that one rank orthogonalizes at once, if a parameter has fewer; temporary tensors take 12 bytes for each."""
_EPS = 1e-8


@dataclass(frozen=True)
class Muon(AdamW):
    """Muon for the matrices of the blocks (Jordan et al. 2024), AdamW for embeddings, heads, biases and norms.

    The update of a matrix is a running mean of its gradients, orthogonalized by a few Newton-Schulz iterations. The
    projections of queries, keys and values share one matrix; each third is orthogonalized separately, which Jordan et
    al. found to work better ("Empirical considerations").

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

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
    ns_coefficients: Coefficients = "jordan"
    """Polynomials of the iterations: those of Jordan et al. 2024, the same in each, or the Polar Express (Amsel et al.
    2025), whose iterations come nearest to an orthogonal matrix."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """Factor of the learning rate of an A × B matrix: sqrt(max(1, A / B)), as in Jordan et al., or 0.2 sqrt(max(A, B)),
    with which the learning rate and weight decay of AdamW can be used (Liu et al. 2025, section 2.2)."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        of_parts = {1: "block", 3: "qkv"}
        in_blocks = {parameter: of_parts[parts] for parameter, parts in matrices_in_blocks(model).items()}
        others = {"algorithm": "adamw", "betas": self.betas, "eps": self.eps}
        muon = self._muon_settings()
        kinds = {
            "matrix": {"weight_decay": self.weight_decay, **others},
            "vector": others,
            "block": {"parts": 1, **muon},
            "qkv": {"parts": 3, **muon},
        }
        groups = grouped(model, kinds, lambda p: in_blocks.get(p) or matrix_or_vector(p), self.groups)
        return MuonAdamW([group | {"lr": self.lr * group["lr_scale"]} for group in groups])

    def _muon_settings(self) -> dict[str, Any]:
        """Settings of the groups with matrices of the blocks."""
        return {
            "algorithm": "muon",
            "rate": "muon_lr",
            "lr_scale": self.muon_lr / self.lr,
            "weight_decay": self.muon_weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "ns_steps": self.ns_steps,
            "ns_coefficients": self.ns_coefficients,
            "adjust_lr_fn": self.adjust_lr_fn,
        }


@dataclass(frozen=True)
class NorMuon(Muon):
    """Muon whose update is divided, in each row, by the root of a running mean of the row's squares (Li et al. 2025).

    A row of the weight is a neuron. Rows of an orthogonalized matrix differ in length where there are more rows than
    columns, or where singular values are near 0; afterwards all neurons move by similar amounts.

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    row_beta2: BelowOne = 0.95
    """Decay rate of the mean squares of the rows."""

    def _muon_settings(self) -> dict[str, Any]:
        return {**super()._muon_settings(), "algorithm": "normuon", "row_beta2": self.row_beta2}


class MuonAdamW(torch.optim.Optimizer):
    """Step groups with `algorithm="muon"` or `"normuon"` by Muon, and groups with `"adamw"` by torch's fused AdamW.

    Both share the groups and the state of this optimizer, so that it has one step, one gradient norm and one state
    dict. A Muon group has `parts`, the number of matrices stacked along the rows of each of its parameters.

    The matrices of one shape are orthogonalized together, divided among the ranks that hold them; see `MatrixLayout`.
    Momentum and mean squares of rows are kept like the parameter: whole under DDP, sharded under FSDP.

    Args:
        groups: parameter groups, with their algorithm and its settings; those of AdamW may be left out.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self._adamw = torch.optim.AdamW([group for group in groups if group["algorithm"] == "adamw"], fused=True)
        super().__init__(groups, {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            if group["algorithm"] == "muon":
                group.setdefault("ns_coefficients", "jordan")  # the only ones of earlier versions
        self._share()

    def _share(self) -> None:
        self._adamw.param_groups = [group for group in self.param_groups if group["algorithm"] == "adamw"]
        self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        muon = [group for group in self.param_groups if group["algorithm"] != "adamw"]
        interleave(self._update(group, batch) for group in muon for batch in _batches(group["params"]))
        self._adamw.step()
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> Generator[None, None, None]:
        """Step parameters of one shape and layout; yield while a collective is in progress."""
        weights = [to_local(parameter) for parameter in parameters]
        gradients = [to_local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        states = [self._state(parameter, group) for parameter in parameters]
        momenta = [to_local(state["momentum_buffer"]) for state in states]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        layout = MatrixLayout.of(parameters[0])
        own = layout.own(len(parameters))
        updates = momenta[own]
        if group["nesterov"] and updates:
            updates = list(torch._foreach_lerp(gradients[own], updates, group["momentum"]))

        def orthogonalized(stack: Tensor) -> Tensor:
            parts = stack.unflatten(1, (group["parts"], -1))
            return orthogonalize(parts.flatten(0, 1), group["ns_steps"], group["ns_coefficients"]).reshape(stack.shape)

        stack = yield from layout.compute(
            orthogonalized, updates, len(parameters), parameters[0], orthogonalization.DTYPE
        )
        steps = stack.to(weights[0].dtype, memory_format=torch.contiguous_format)
        height, width = parameters[0].size(0) // group["parts"], parameters[0].size(1)
        if group["algorithm"] == "normuon":
            means = [to_local(state["row_exp_avg_sq"]) for state in states]
            squares = torch.linalg.vector_norm(steps, dim=-1, keepdim=True).square_() / width
            torch._foreach_lerp_(means, squares.unbind(), 1 - group["row_beta2"])
            steps /= (max(height, width) * torch.stack(means)).sqrt_() + _EPS
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        factor = _lr_factor(group["adjust_lr_fn"], height, width)
        torch._foreach_add_(weights, steps.unbind(), alpha=-group["lr"] * factor)

    def _state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Return the state of a parameter, which is created at its first step."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            if group["algorithm"] == "normuon":  # begins as for an orthogonal matrix with rows of equal length
                longest = max(len(parameter) // group["parts"], parameter.size(1))
                state["row_exp_avg_sq"] = torch.full_like(parameter[:, :1], 1 / longest)
        return state


def _batches(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Divide parameters with gradients into lists of one shape, as many as the ranks orthogonalize together."""
    alike = defaultdict[Any, list[Tensor]](list)
    for parameter in parameters:
        if parameter.grad is not None:
            alike[parameter.shape, parameter.dtype, parameter.device, MatrixLayout.of(parameter)].append(parameter)
    for (shape, _, _, layout), found in alike.items():
        most = layout.ranks * max(1, _MOST_ELEMENTS // shape.numel())
        yield from (found[start : start + most] for start in range(0, len(found), most))


def _lr_factor(adjust_lr_fn: str, height: int, width: int) -> float:
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(height, width))
    return math.sqrt(max(1, height / width))
