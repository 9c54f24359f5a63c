"""GPUs of this machine, and what their errors mean."""

from __future__ import annotations

_NOT_THERE = ("no CUDA-capable device", "busy or unavailable", "invalid device ordinal", "system not yet initialized")
_BROKEN = ("unspecified launch failure", "unknown error", "ECC error", "NVLink error", "hardware", "fallen off the bus")
_CAUSES = (
    (
        _NOT_THERE,
        "the GPU is gone or in use: nvidia-smi lists the GPUs of this machine, and CUDA_VISIBLE_DEVICES chooses some",
    ),
    (_BROKEN, "the GPU or its driver failed: dmesg has the cause (Xid), and CUDA_VISIBLE_DEVICES leaves a GPU out"),
    (
        ("device-side assert",),
        "an index is out of range, such as a token id beyond the vocabulary: trainer=cpu reports where",
    ),
)
"""Parts of CUDA's messages, and what they mean."""


def visible() -> str:
    """List the GPUs that this process can use, as in `0: NVIDIA H200 (151 GB)`."""
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{index}: {gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for index, gpu in enumerate(found))


def failure(error: BaseException) -> str | None:
    """Describe an error of a GPU that is not one of the program; None for other errors."""
    said = str(error).partition("\n")[0]
    if not (isinstance(error, RuntimeError) and said.startswith("CUDA error: ")):
        return None
    return next((f"{said}; {cause}" for signs, cause in _CAUSES if any(sign in said for sign in signs)), None)
