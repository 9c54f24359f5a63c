"""Settings of device, dtype and quantization."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.inference.quantized import quantize

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "fp32", "bf16", "fp16"]
Quantization = Literal["none", "int8"]
"""What weights are for inference: as they are, or int8 with a scale for each output channel."""
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


def require_quantizable(wanted: Quantization, device: torch.device, dtype: torch.dtype | None) -> None:
    """Check that weights can be quantized for a device and a dtype.

    Args:
        wanted: the setting.
        device: device of the model.
        dtype: dtype of the computation; None for that of the weights.

    Raises:
        UserError: if they cannot be.
    """
    if wanted not in get_args(Quantization):
        raise UserError(f"quantize: '{wanted}' is not one of {', '.join(get_args(Quantization))}")
    if wanted == "none":
        return
    if device.type != "cpu":
        raise UserError(f"quantize={wanted}: it is for CPUs, and the device is {device.type}; add device=cpu")
    if dtype not in (None, torch.float32):
        raise UserError(f"quantize={wanted}: activations are float32 with it; leave dtype out")


def placed(model: GPT2, device: torch.device, dtype: torch.dtype | None, quantization: Quantization = "none") -> GPT2:
    """Move a model to a device and a dtype, and quantize its weights, all in place; see `require_quantizable`."""
    model = model.to(device, dtype)
    if quantization == "int8":
        quantize(model.float())
    return model


def other_devices(wanted: Device) -> tuple[torch.device, ...]:
    """Return the GPUs that a device setting includes besides `device_of`: for `auto`, all of the machine."""
    count = torch.cuda.device_count() if wanted == "auto" else 1
    return tuple(torch.device("cuda", number) for number in range(1, count))
