"""Running average of the weights of a run, which takes their place in validations and checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpt2_lightning.checkpoints.content import WEIGHT_AVERAGE
from gpt2_lightning.checkpoints.training_state import is_count, tensor_faults
from gpt2_lightning.training.strategies.fsdp import shard_like

Update = Callable[[list[Tensor], list[Tensor], int], None]
"""Function that adds the current weights (second) to the averages of a number of weights (third), as those of
`torch.optim.swa_utils`."""


class WeightAverage:
    """Running average of the trainable parameters of a module, in float32.

    A step of an average is often smaller than the rounding of bfloat16.

    Args:
        module: module on its device, sharded or not.
        method: name of the method, for checkpoints.
        validates_raw: whether validations also compute the loss of the weights that are trained.
        saved: entry of a checkpoint of the same method, from which the average continues; None to begin.
    """

    def __init__(
        self, module: nn.Module, method: str, validates_raw: bool = True, saved: Mapping[str, Any] | None = None
    ) -> None:
        self.method, self.validates_raw = method, validates_raw
        self._parameters = {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}
        self.updates: int = saved["updates"] if saved else 0
        """Number of averaged weights."""
        found: Mapping[str, Tensor] = saved["average"] if saved else {}
        self._average = {
            name: shard_like(parameter, found[name]).to(parameter.device, torch.float32, copy=True)
            if name in found
            else parameter.detach().to(torch.float32, copy=True)
            for name, parameter in self._parameters.items()
        }
        self._trained: dict[str, Tensor] | None = None
        """The weights that are trained, while their average is in their place."""

    @torch.no_grad()
    def add(self, update: Update) -> None:
        """Add the current weights to the average."""
        weights = [parameter.detach().float() for parameter in self._parameters.values()]
        update([*self._average.values()], weights, self.updates)
        self.updates += 1

    def reset(self) -> None:
        """Drop the average."""
        self.updates = 0

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average in the place of the weights. Nothing is done where it is, or where nothing was averaged."""
        if self.updates and self._trained is None:
            self._trained = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            self._write(self._average)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights that are trained back in their place."""
        if self._trained is not None:
            self._write(self._trained)
            self._trained = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Context manager in which the average is in the place of the weights."""
        was_applied = self._trained is not None
        self.apply()
        try:
            yield
        finally:
            if not was_applied:
                self.restore()

    def to_plain(self, module: nn.Module) -> dict[str, Any]:
        """Return the entry of a checkpoint, with tied tensors under each of their names."""
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        own = module.state_dict(keep_vars=True)
        aliases = {alias: names[id(tensor)] for alias, tensor in own.items() if id(tensor) in names}
        trained = self._trained or {name: parameter.detach() for name, parameter in self._parameters.items()}
        return {
            "method": self.method,
            "updates": self.updates,
            "average": {alias: self._average[name] for alias, name in aliases.items()},
            "trained": {alias: trained[name] for alias, name in aliases.items()},
        }

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])


def restore_trained(checkpoint: dict[str, Any]) -> None:
    """Put the weights of the step into the state dict of a loaded checkpoint, in place of their average."""
    saved = checkpoint.get(WEIGHT_AVERAGE)
    if isinstance(saved, dict) and isinstance(saved.get("trained"), dict):
        checkpoint["state_dict"] |= saved["trained"]


def faults(saved: Any, own: Mapping[str, Tensor]) -> Iterator[str]:
    """Check the entry of a checkpoint against the state dict of a module.

    Yields:
        A message for each fault.
    """
    if not (
        isinstance(saved, dict)
        and is_count(saved.get("updates"))
        and isinstance(saved.get("method"), str)
        and all(isinstance(saved.get(part), dict) for part in ("average", "trained"))
    ):
        yield f"{WEIGHT_AVERAGE}: it does not hold a method, a count of updates, an average and the weights of the step"
        return
    for part in ("average", "trained"):
        for name, value in saved[part].items():
            if name in own:
                yield from tensor_faults(value, own[name].shape, f"{WEIGHT_AVERAGE}.{part}: {name}")
