"""What devices can compute at most: the denominator of a run's MFU."""

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
"""TFLOP/s of dense matrices, by the name that `torch.cuda.get_device_name` gives without "NVIDIA ".

From NVIDIA's datasheets of each card, which state Tensor Core figures with sparsity since the A100: half of those. Of
GeForce cards and the RTX A6000 from appendix A of the white papers on GA102, AD102 and GB202, the row with FP32
accumulation, which training has. What is not sure, such as a card of which there are several kinds by one name, is left
out."""


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """FLOP/s that a device reaches at most in matrix products; None where it is not known.

    Args:
        device: where the run takes place.
        precision: what it computes in; not `auto`.
    """
    return listed_peak(device_name(device), precision)


def listed_peak(name: str, precision: Precision) -> float | None:
    """The same, by the name of the device."""
    multiplies_in = "bf16" if precision == "bf16_true" else precision
    tera = PEAKS.get(name.removeprefix("NVIDIA "), {}).get(multiplies_in)
    return None if tera is None else tera * 1e12


def device_name(device: torch.device) -> str:
    """As it is known to its users."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
