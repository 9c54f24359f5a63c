"""Peak FLOP/s of devices, the denominator of MFU."""

from __future__ import annotations

import torch

from gpt2_lightning.training.precision import Precision

_HOPPER = {"fp32": 67.0, "tf32": 494.7, "fp16": 989.4, "bf16": 989.4}
_HOPPER_NVL = {"fp32": 60.0, "tf32": 417.5, "fp16": 835.5, "bf16": 835.5}
_A100 = {"fp32": 19.5, "tf32": 156.0, "fp16": 312.0, "bf16": 312.0}
PEAKS: dict[str, dict[str, float]] = {
    "B200": {"tf32": 1125.0, "fp16": 2250.0, "bf16": 2250.0},
    "H200": _HOPPER,
    "H200 NVL": _HOPPER_NVL,
    "GH200 480GB": _HOPPER,
    "H100 80GB HBM3": _HOPPER,
    "H100 NVL": _HOPPER_NVL,
    "H100 PCIe": {"fp32": 51.0, "tf32": 378.0, "fp16": 756.0, "bf16": 756.0},
    "A100-SXM4-40GB": _A100,
    "A100-SXM4-80GB": _A100,
    "A100-PCIE-40GB": _A100,
    "A100 80GB PCIe": _A100,
    "A40": {"fp32": 37.4, "tf32": 74.8, "fp16": 149.7, "bf16": 149.7},
    "A30": {"fp32": 10.3, "tf32": 82.0, "fp16": 165.0, "bf16": 165.0},
    "A10": {"fp32": 31.2, "tf32": 62.5, "fp16": 125.0, "bf16": 125.0},
    "L40S": {"fp32": 91.6, "tf32": 183.0, "fp16": 362.0, "bf16": 362.0},
    "L40": {"fp32": 90.5, "tf32": 90.5, "fp16": 181.0, "bf16": 181.0},
    "L4": {"fp32": 30.3, "tf32": 60.0, "fp16": 121.0, "bf16": 121.0},
    "Tesla V100-SXM2-16GB": {"fp32": 15.7, "fp16": 125.0},
    "Tesla V100-SXM2-32GB": {"fp32": 15.7, "fp16": 125.0},
    "Tesla V100-PCIE-16GB": {"fp32": 14.0, "fp16": 112.0},
    "Tesla V100-PCIE-32GB": {"fp32": 14.0, "fp16": 112.0},
    "Tesla T4": {"fp32": 8.1, "fp16": 65.0},
    "RTX A6000": {"fp32": 38.7, "tf32": 77.4, "fp16": 154.8, "bf16": 154.8},
    "GeForce RTX 3090": {"fp32": 35.6, "tf32": 35.6, "fp16": 71.0, "bf16": 71.0},
    "GeForce RTX 4090": {"fp32": 82.6, "tf32": 82.6, "fp16": 165.2, "bf16": 165.2},
    "GeForce RTX 5090": {"fp32": 104.8, "tf32": 104.8, "fp16": 209.5, "bf16": 209.5},
}
"""TFLOP/s of dense matrix products, by the result of `torch.cuda.get_device_name` without "NVIDIA ".

Values are from NVIDIA's datasheet of each card; since the A100, datasheets state Tensor Core values with sparsity, of
which this is half. Values of GeForce cards and the RTX A6000 are from appendix A of the white papers on GA102, AD102
and GB202, in the row with FP32 accumulation, which training uses. Uncertain values, such as for a name shared by
several kinds of card, are omitted."""


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """Return the peak FLOP/s of a device in matrix products; None if unknown.

    Args:
        device: device of the run.
        precision: precision of the run; not `auto`.
    """
    return listed_peak(device_name(device), precision)


def listed_peak(name: str, precision: Precision) -> float | None:
    """Return the peak FLOP/s of a device by its name; None if unknown."""
    multiplies_in = "bf16" if precision == "bf16_true" else precision
    tera = PEAKS.get(name.removeprefix("NVIDIA "), {}).get(multiplies_in)
    return None if tera is None else tera * 1e12


def device_name(device: torch.device) -> str:
    """Return the display name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
