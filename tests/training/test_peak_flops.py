"""The table of peaks, against figures of NVIDIA's datasheets that are stated here once more."""

from __future__ import annotations

import pytest
import torch

from gpt2_lightning.training.performance.peak_flops import PEAKS, listed_peak, peak_flops
from gpt2_lightning.training.precision import Precision


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("A100-SXM4-40GB", "tf32", 156),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("NVIDIA H100 80GB HBM3", "bf16_true", 989.4),
        ("NVIDIA H100 PCIe", "fp16", 756),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla T4", "fp16", 65),
    ],
)
def test_peaks_are_those_of_dense_matrices(name: str, precision: Precision, tera: float) -> None:
    assert listed_peak(name, precision) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16"),
        ("NVIDIA H100", "bf16"),
        ("Tesla V100-SXM2-16GB", "bf16"),
        ("Tesla T4", "tf32"),
        ("AMD Instinct MI300X", "bf16"),
    ],
)
def test_what_is_not_listed_is_unknown(name: str, precision: Precision) -> None:
    """A slice of a card, a name that no driver gives, and a format that a card does not multiply in."""
    assert listed_peak(name, precision) is None


def test_a_cpu_has_no_peak() -> None:
    assert peak_flops(torch.device("cpu"), "fp32") is None


@pytest.mark.parametrize("name", PEAKS)
def test_narrower_formats_are_not_slower(name: str) -> None:
    """And none has the figure with sparsity, which would be more than twice the half of it."""
    found = [PEAKS[name][kind] for kind in ("fp32", "tf32", "bf16") if kind in PEAKS[name]]
    assert found == sorted(found)
    assert PEAKS[name].get("bf16", PEAKS[name]["fp16"]) == PEAKS[name]["fp16"]
    if "tf32" in PEAKS[name]:
        assert PEAKS[name]["bf16"] / PEAKS[name]["tf32"] == pytest.approx(2, rel=0.02)
