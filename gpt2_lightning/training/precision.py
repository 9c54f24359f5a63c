"""Precisions of a run, and the Lightning plugins that implement them.

| name | weights, optimizer | matrix products | everything else |
| --- | --- | --- | --- |
| `fp32` | float32 | float32 | float32 |
| `tf32` | float32 | float32 with a 10-bit mantissa, on tensor cores | float32 |
| `bf16` | float32 | bfloat16, by autocast | by autocast's rules |
| `fp16` | float32 | float16, by autocast, with loss scaling | by autocast's rules |
| `bf16_true` | bfloat16 | bfloat16 | bfloat16, except the loss |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.plugins.precision import Precision as Plugin
from torch import Tensor, nn
from torch.optim import Optimizer

Precision = Literal["auto", "fp32", "tf32", "bf16", "bf16_true", "fp16"]
"""`auto` is bf16 on GPUs that support it, fp16 on older NVIDIA GPUs (fp32 under FSDP), and fp32 on CPUs, whatever their
instructions, so that results do not depend on the model of the processor."""
_AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs with bfloat16 and TF32."""
MIXED: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtype of matrix products under autocast, with weights in float32."""


def fault(precision: Precision, device: str) -> str | None:
    """Return why a device (`cuda`, `mps` or `cpu`) does not support a precision, with alternatives; None if it does."""
    if precision == "tf32" and not _has_tf32(device):
        return f"precision: tf32 is for NVIDIA GPUs from Ampere on, and not for {_named(device)}; use fp32 or bf16"
    if precision in ("bf16", "bf16_true") and not _allows_bfloat16(device):
        return f"precision: {_named(device)} has no bfloat16; use {'fp16 or ' if device == 'cuda' else ''}fp32"
    if precision == "fp16" and device == "mps":
        return "precision: fp16 with a scaled loss is for NVIDIA GPUs and CPUs; use bf16 or fp32"
    return None


def choose(precision: Precision, device: str, sharded: bool = False) -> Precision:
    """Resolve `auto` on a device; return other precisions unchanged.

    Args:
        precision: precision of the run.
        device: `cuda`, `mps` or `cpu`.
        sharded: whether the strategy is FSDP, which does not support fp16.
    """
    if precision != "auto":
        return precision
    if device == "cpu":
        return "fp32"
    if multiplies_in_bfloat16(device):
        return "bf16"
    return "fp16" if device == "cuda" and not sharded else "fp32"


def remark(precision: Precision, device: str, sharded: bool = False) -> str | None:
    """Return a remark on the precision for the log of a run: the result of `auto` on a GPU, or a likely slowdown.

    The arguments are those of `choose`.
    """
    if precision == "auto" and device != "cpu":
        chosen = choose(precision, device, sharded)
        if chosen == "bf16":
            return f"bf16, which {_named(device)} supports"
        unsupported = "; fsdp does not support fp16" if device == "cuda" and sharded else ""
        return f"{chosen}, since {_named(device)} has no bfloat16{unsupported}"
    if precision in ("bf16", "bf16_true") and not multiplies_in_bfloat16(device):
        return f"{precision}, for which {_named(device)} lacks instructions: fp32 may be faster"
    return None


def plugin(precision: Precision, device: str) -> Plugin:
    """Return the plugin of a precision other than `auto` for Lightning's Trainer."""
    if precision == "fp16":
        return Float16(device)
    if precision == "bf16":
        return MixedPrecision("bf16-mixed", device)
    return {"fp32": Plugin, "tf32": TensorFloat32, "bf16_true": TrueBFloat16}[precision]()


def left_to_strategy(mixed: Plugin) -> Plugin:
    """Return a plugin of the same name without effect: FSDP casts weights to the dtype of the computation itself."""
    plain = Plugin()
    plain.precision = mixed.precision
    return plain


class Float16(MixedPrecision):
    """float16 with loss scaling, which prevents underflow of small gradients (Micikevicius et al. 2018).

    Gradients are unscaled before clipping, also for fused optimizers, where Lightning does not. A step with gradients
    that are not finite is skipped: the weights are unchanged, and the scale is halved.
    """

    def __init__(self, device: str) -> None:
        self.scaler: torch.amp.GradScaler = torch.amp.GradScaler(device)
        super().__init__("16-mixed", device, self.scaler)
        self._skipped_steps: Tensor | int = 0

    @property
    def skipped_steps(self) -> int:
        """Steps skipped because of gradients that were not finite. Synchronizes the device."""
        return int(self._skipped_steps)

    def optimizer_step(  # type: ignore[override]  # Lightning's own overrides widen nothing either
        self, optimizer: Optimizer, model: LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        loss = closure()
        self.scaler.unscale_(optimizer)
        self._after_closure(model, optimizer)
        one = torch.ones((), device=model.device)
        before = self.scaler.scale(one)  # get_scale() would wait for the device
        self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        self._skipped_steps = self._skipped_steps + (self.scaler.scale(one) < before)
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state_dict["scaler"])
        self._skipped_steps = state_dict["skipped_steps"]


class TrueBFloat16(Plugin):
    """Weights, gradients and optimizer state in bfloat16; losses and metrics keep their dtype."""

    precision = "bf16-true"

    def convert_module(self, module: nn.Module) -> nn.Module:
        network = module.model
        assert isinstance(network, nn.Module)
        network.to(torch.bfloat16)
        return module


class TensorFloat32(Plugin):
    """Allow TF32 matrix products until `teardown`."""

    _before = "highest"

    def convert_module(self, module: nn.Module) -> nn.Module:
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        return module

    def teardown(self) -> None:
        torch.set_float32_matmul_precision(self._before)


def _named(device: str) -> str:
    return {"cuda": "this GPU", "mps": "this Apple GPU", "cpu": "this CPU"}[device]


def _has_tf32(device: str) -> bool:
    return device == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability() >= _AMPERE


def _allows_bfloat16(device: str) -> bool:
    """Whether bfloat16 is supported; CPUs without instructions for it emulate it."""
    return device == "cpu" or multiplies_in_bfloat16(device)


def multiplies_in_bfloat16(device: str) -> bool:
    """Whether a device has instructions for products of bfloat16 matrices."""
    if device == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability() >= _AMPERE
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
