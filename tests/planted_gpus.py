"""GPUs that torch reports and that do not exist."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

NO_DEVICE = torch.AcceleratorError(
    "CUDA error: no CUDA-capable device is detected\nSearch for `cudaErrorNoDevice' in https://docs.nvidia.com/cuda"
)
"""The error of a process whose GPU has disappeared."""


def plant_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let torch report GPUs of 151 GB."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    h200 = SimpleNamespace(name="NVIDIA H200", total_memory=150_754_820_096)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: h200)
