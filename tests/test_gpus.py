from __future__ import annotations

import pytest
import torch

from gpt2_lightning import gpus
from tests.planted_gpus import NO_DEVICE, plant_gpus


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NO_DEVICE, "CUDA error: no CUDA-capable device is detected; the GPU is gone or in use"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "the GPU is gone or in use"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "the GPU or its driver failed"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "the GPU or its driver failed"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "an index is out of range"),
    ],
)
def test_a_gpu_that_fails_is_described_in_one_line(error: Exception, expected: str) -> None:
    said = gpus.failure(error)
    assert said is not None
    assert expected in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied; unknown error"),
        ValueError("CUDA error: unknown error"),
    ],
)
def test_errors_of_the_program_are_not_those_of_a_gpu(error: Exception) -> None:
    assert gpus.failure(error) is None


def test_gpus_are_listed_by_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_gpus(monkeypatch, 2)
    assert gpus.visible() == "0: NVIDIA H200 (151 GB), 1: NVIDIA H200 (151 GB)"
