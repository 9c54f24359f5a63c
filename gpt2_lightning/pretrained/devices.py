"""What to compute on."""

from __future__ import annotations

from typing import Literal

import torch

from gpt2_lightning.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]


def device_of(wanted: Device) -> torch.device:
    """The device that a setting means; `auto` takes the fastest there is.

    Raises:
        UserError: if the machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, available in there.items() if available))
    if not there[wanted]:
        raise UserError(f"device={wanted}: this machine has none, or this torch was built without it; use device=auto")
    return torch.device(wanted)
