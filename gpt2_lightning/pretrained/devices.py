"""Device and dtype settings."""

from __future__ import annotations

from typing import Literal

import torch

from gpt2_lightning.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""PyTorch dtypes by their names in the settings."""


def device_of(wanted: Device) -> torch.device:
    """Resolve a device setting; `auto` is the fastest device of the machine.

    Raises:
        UserError: if the machine does not have the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, is_there in available.items() if is_there))
    if wanted not in available:
        raise UserError(f"device: '{wanted}' is not one of auto, {', '.join(available)}")
    if not available[wanted]:
        raise UserError(f"device={wanted}: not available on this machine or in this build of torch; use device=auto")
    return torch.device(wanted)


def dtype_of(wanted: DType) -> torch.dtype | None:
    """Resolve a dtype setting; None for `auto`, the dtype of the weights.

    Raises:
        UserError: if the dtype is unknown.
    """
    if wanted != "auto" and wanted not in DTYPES:
        raise UserError(f"dtype: '{wanted}' is not one of auto, {', '.join(DTYPES)}")
    return DTYPES.get(wanted)


def other_devices(wanted: Device) -> tuple[torch.device, ...]:
    """Return the GPUs that a device setting includes besides `device_of`: for `auto`, all of the machine."""
    count = torch.cuda.device_count() if wanted == "auto" else 1
    return tuple(torch.device("cuda", number) for number in range(1, count))
