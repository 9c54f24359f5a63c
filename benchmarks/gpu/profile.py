"""The operations of a training step that take the most time on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from benchmarks.gpu.rows import Row
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.training import train

_STEPS, _LISTED = 3, 40


class _Profiler(L.Callback):
    """Profile three steps after the warm-up."""

    def __init__(self, scale: Scale) -> None:
        self.scale, self._first = scale, 1 + scale.warm_up
        kinds = [ProfilerActivity.CUDA] if scale.device == "cuda" else []
        self.profiler = torch_profile(activities=[ProfilerActivity.CPU, *kinds])

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self._first:
            self.profiler.start()
        elif trainer.global_step == self._first + _STEPS:
            self.scale.synchronize()
            self.profiler.stop()


def profile(scale: Scale) -> Iterator[Row]:
    """Train as `train` does with its defaults, and list the kernels (on a CPU, operations) that take the longest."""
    callback = _Profiler(scale)
    list(train(scale, callbacks=(callback,)))
    on_cuda = scale.device == "cuda"
    kernels = [
        (event.self_device_time_total if on_cuda else event.self_cpu_time_total, event.count, event.key)
        for event in callback.profiler.key_averages()
        if event.device_type == (DeviceType.CUDA if on_cuda else DeviceType.CPU) and not event.is_user_annotation
    ]
    total = sum(time for time, _, _ in kernels)
    lines = [f"{'ms a step':>9} {'share':>6} {'calls':>6}  operation"]
    for time, count, name in sorted(kernels, reverse=True)[:_LISTED]:
        lines.append(f"{time / _STEPS / 1000:9.3f} {time / total:6.1%} {count / _STEPS:6.0f}  {name}")
    yield {"milliseconds": total / _STEPS / 1000, "remark": "time of all kernels", "text": "\n".join(lines) + "\n"}
