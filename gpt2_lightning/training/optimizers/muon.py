"""Muon for matrices and AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `algorithm="muon"` are stepped by torch's Muon, those with "adamw" by torch's fused AdamW.

    Both work on the groups and the state of this optimizer, which has a step, a gradient norm and a state to save, as
    any other. A group of Muon's has `parts`: how many matrices lie in each of its parameters, one below the other.

    Args:
        groups: parameters, their algorithm, and what of its settings differs from torch's defaults.

    Raises:
        UserError: if a matrix of Muon's is sharded among processes.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        muon = [group for group in groups if group["algorithm"] == "muon"]
        adamw = [group for group in groups if group["algorithm"] == "adamw"]
        if any(hasattr(parameter, "placements") for group in muon for parameter in group["params"]):
            raise UserError(
                "optimizer: muon needs whole matrices, and fsdp shards them; use trainer=ddp, or optimizer=adamw"
            )
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
    """Orthogonalises each of the matrices that lie in a parameter by itself."""

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
