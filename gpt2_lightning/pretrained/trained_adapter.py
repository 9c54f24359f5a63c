"""A LoRA adapter that was trained, and what a checkpoint that holds it alone says of it."""

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
"""Where its tensors have their names from: `adapter_state`, and the model that holds the adapter."""


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter and the model that it belongs to."""

    spec: LoRASpec
    state: Mapping[str, Tensor]
    """As of `model.adapters.adapter_state`."""
    base: str
    """Where the model lies that it was trained on."""
    base_hash: str
    """Of that model's weights."""

    @classmethod
    def from_checkpoint(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], path: Path) -> TrainedAdapter:
        """The adapter of a checkpoint.

        Args:
            tensors: its state dict; a classifier's head is left out.
            plain: what its task says of the adapter.
            path: the file, for messages.

        Raises:
            UserError: if its settings are none.
        """
        state = {key.replace(_MATRIX, _LAYER): tensor for key, tensor in tensors.items() if key != SCORE}
        try:
            return cls(LoRASpec(**plain["spec"]), state, str(plain["base"]), str(plain["base_hash"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} says of its adapter what this version cannot read: {error!r}; use another file"
            ) from None

    def tensors(self) -> dict[str, Tensor]:
        """The inverse of `from_checkpoint`: the tensors as a checkpoint names them."""
        return {key.replace(_LAYER, _MATRIX): tensor for key, tensor in self.state.items()}

    def to_plain(self) -> dict[str, Any]:
        """What the task of a checkpoint says of it."""
        spec = {**dataclasses.asdict(self.spec), "targets": list(self.spec.targets)}
        return {"spec": spec, "base": lasting(self.base), "base_hash": self.base_hash}

    def require_base(self, model: GPT2, where: Path, place: str) -> None:
        """Refuse another model than its own, on which it would compute nonsense.

        Args:
            model: the base.
            where: the adapter's file.
            place: the base's.

        Raises:
            UserError: if the hash is another, with both.
        """
        if (has := weights_hash(model)) != self.base_hash:
            raise UserError(
                f"{where} holds a LoRA adapter of another model than {place}: that has the hash {has[:12]}, and it "
                f"was trained on {self.base_hash[:12]}; name the right one with base="
            )

    def load_into(self, model: GPT2, where: Path) -> GPT2:
        """Add it to the base, whose dtype it takes, in use and not merged.

        Raises:
            UserError: if it does not fit the model; `where` tells its file.
        """
        try:
            load_adapter(model, self.state, self.spec)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        return model.eval()

    def merged(self, base: GPT2, where: Path) -> GPT2:
        """The base, in float32 and with the adapter in its weights.

        Raises:
            UserError: as `load_into`.
        """
        model = self.load_into(base.float(), where)
        merge(model)
        remove_lora(model)
        return model.eval()


def lasting(place: str) -> str:
    """A place that means the same in another working folder."""
    return place if ":" in place else str(Path(place).expanduser().absolute())
