"""The training state in a checkpoint: its entries, and their structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from gpt2_lightning.errors import UserError, shortened

_ENTRIES: dict[str, type] = {
    "state_dict": dict,
    "global_step": int,
    "epoch": int,
    "pytorch-lightning_version": str,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "random_states": list,
    "train_losses": list,
    "stopped_early": bool,
    "accumulate": int,
}
_LIGHTNING = re.compile(r"2(\.\d{1,6}){1,2}((a|b|rc|\.dev|\.post)\d{1,9})*")
_MOST = 2**53
"""Limit of counts, within which arithmetic on them is exact."""


def require_training_state(checkpoint: dict[str, Any], path: object) -> None:
    """Check that a checkpoint has the entries from which training resumes.

    Raises:
        UserError: with every entry that is missing or malformed.
    """
    faults = [fault for name, kind in _ENTRIES.items() for fault in _entry_faults(checkpoint, name, kind)]
    if not faults and not _LIGHTNING.fullmatch(checkpoint["pytorch-lightning_version"]):
        faults.append(f"pytorch-lightning_version: {shortened(checkpoint['pytorch-lightning_version'])} is not 2.x")
    if not faults and checkpoint["accumulate"] < 1:
        faults.append(f"accumulate: {checkpoint['accumulate']} is out of range, 1 or more is allowed")
    refuse(faults, path)


def refuse(faults: list[str], path: object) -> None:
    """Raise an error with the faults of a training state, if there are any."""
    if faults:
        listed = "\n  ".join(faults)
        raise UserError(
            f"resume: {path} holds a training state that cannot be restored:\n  {listed}\nuse another checkpoint of "
            "the run, or start from its weights with finetune's init_from"
        )


def structure_faults(found: Any, own: Any, name: str) -> Iterator[str]:
    """Compare a saved state with the present state of the object that it is for: keys, types and shapes.

    Args:
        found: state in a checkpoint. Keys that `own` lacks are allowed; keys that are empty in `own` may be missing, as
            in checkpoints of versions without them.
        own: state of the object. Values other than dicts, numbers, tensors and lists are not compared.
        name: name of the state, which begins each message.

    Yields:
        A message for each fault.
    """
    if isinstance(own, dict):
        if not isinstance(found, dict):
            yield f"{name}: {shortened(found)} is no dict"
            return
        for key, value in own.items():
            if key in found:
                yield from structure_faults(found[key], value, f"{name}.{key}")
            elif isinstance(value, int | float | Tensor) or value:
                yield f"{name}.{key}: missing"
    elif isinstance(own, bool):
        if not isinstance(found, bool):
            yield f"{name}: {shortened(found)} is not true or false"
    elif isinstance(own, int):
        if not is_count(found):
            yield f"{name}: {shortened(found)} is no count"
    elif isinstance(own, float):
        if not isinstance(found, int | float) or isinstance(found, bool):
            yield f"{name}: {shortened(found)} is no number"
    elif isinstance(own, Tensor):
        yield from tensor_faults(found, own.shape, name)
    elif isinstance(own, list) and not isinstance(found, list):
        yield f"{name}: {shortened(found)} is no list"


def tensor_faults(found: Any, shape: tuple[int, ...], name: str) -> Iterator[str]:
    """Compare a value with the shape of a tensor of floating-point numbers."""
    if not isinstance(found, Tensor):
        yield f"{name}: {shortened(found)} is no tensor"
    elif found.shape != shape:
        yield f"{name}: has shape {list(found.shape)}, needs {list(shape)}"
    elif not found.is_floating_point():
        yield f"{name}: has dtype {str(found.dtype).removeprefix('torch.')}, needs floating-point numbers"


def is_count(value: Any) -> bool:
    """Whether a value is an integer from 0 to 2^53."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _entry_faults(checkpoint: dict[str, Any], name: str, kind: type) -> Iterator[str]:
    if name not in checkpoint:
        yield f"{name}: missing"
    elif kind is int and not is_count(checkpoint[name]):
        yield f"{name}: {shortened(checkpoint[name])} is no count"
    elif not isinstance(checkpoint[name], kind):
        yield f"{name}: {shortened(checkpoint[name])} is no {kind.__name__}"
