"""A trained LoRA adapter, and its form in checkpoints that contain only the adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2_lightning.checkpoints.content import SCORE, weights_hash
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.lora.adapters import load_adapter, merge, remove_lora
from gpt2_lightning.model.lora.layers import LoRASpec

_LAYER, _MATRIX = ".lora_", ".adapters.default.lora_"
"""Infixes of tensor names in `adapter_state`, and in the state dict of a model with an adapter."""


@dataclass(frozen=True)
class TrainedAdapter:
    """A LoRA adapter and its base model."""

    spec: LoRASpec
    state: Mapping[str, Tensor]
    """Tensors as returned by `model.adapters.adapter_state`."""
    base: str
    """Source of the base model."""
    base_hash: str
    """Hash of the base model's weights."""

    @classmethod
    def from_checkpoint(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], path: Path) -> TrainedAdapter:
        """Read the adapter of a checkpoint.

        Args:
            tensors: state dict of the checkpoint; a classifier's head is ignored.
            plain: entry of the adapter in the checkpoint's task.
            path: path of the checkpoint, for messages.

        Raises:
            UserError: if the settings of the adapter cannot be read.
        """
        state = {key.replace(_MATRIX, _LAYER): tensor for key, tensor in tensors.items() if key != SCORE}
        try:
            return cls(LoRASpec(**plain["spec"]), state, str(plain["base"]), str(plain["base_hash"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} has an adapter that this version cannot read: {error!r}; use another file"
            ) from None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, named as in a checkpoint; the inverse of `from_checkpoint`."""
        return {key.replace(_LAYER, _MATRIX): tensor for key, tensor in self.state.items()}

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values, for the task of a checkpoint."""
        spec = {**dataclasses.asdict(self.spec), "targets": list(self.spec.targets)}
        return {"spec": spec, "base": absolute_location(self.base), "base_hash": self.base_hash}

    def require_base(self, model: GPT2, where: Path, location: str) -> None:
        """Check that a model is the base model of the adapter.

        Args:
            model: base model to check.
            where: path of the adapter, for messages.
            location: location of the base model, for messages.

        Raises:
            UserError: with both hashes, if they differ.
        """
        if (has := weights_hash(model)) != self.base_hash:
            raise UserError(
                f"{where} contains a LoRA adapter of another model than {location}: that has the hash {has[:12]}, "
                f"and it was trained on {self.base_hash[:12]}; name the right one with base="
            )

    def load_into(self, model: GPT2, where: Path) -> GPT2:
        """Add the adapter to its base model without merging, in the dtype of the base.

        Args:
            model: base model.
            where: path of the adapter, for messages.

        Raises:
            UserError: if the adapter does not fit the model.
        """
        try:
            load_adapter(model, self.state, self.spec)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        return model.eval()

    def merged(self, base: GPT2, where: Path) -> GPT2:
        """Merge the adapter into its base model, in float32.

        Raises:
            UserError: see `load_into`.
        """
        model = self.load_into(base.float(), where)
        merge(model)
        remove_lora(model)
        return model.eval()


def absolute_location(location: str) -> str:
    """Make a path absolute; Hub addresses are unchanged."""
    return location if ":" in location else str(Path(location).expanduser().absolute())
