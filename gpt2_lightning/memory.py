"""Memory of the device that a process computes on: how much it has taken, and how much there is."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path

import torch

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SIGNS = ("allocate memory", "out of memory")
"""What a RuntimeError says where there is no exception for it: that of the CPU, and of Apple's GPUs."""


def peak(device: torch.device) -> int | None:
    """The most bytes that this process has had at once: tensors on a GPU, or all of it on the CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if (most := _field(_STATUS, "VmHWM")) is not None:
        return most
    try:
        import resource
    except ImportError:  # Windows
        return None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def reset_peak(device: torch.device) -> None:
    """Let `peak` begin anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            _CLEAR_REFS.write_text(_RESET_PEAK)


def usable(device: torch.device, processes: int = 1) -> int | None:
    """Bytes that this process may have in all, with those that it has; None if unknown.

    Args:
        device: a GPU is this process's own.
        processes: on this machine, which share out its main memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    left, own = left_of_main(), _field(_STATUS, "VmRSS")
    return None if device.type != "cpu" or left is None or own is None else left // processes + own


def left_of_main() -> int | None:
    """Bytes of main memory that can still be taken; None if unknown."""
    available = _field(_MEMINFO, "MemAvailable")
    return None if available is None else int(min(available, _left_by_container()))


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that there is no more memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def _field(file: Path, name: str) -> int | None:
    """Bytes of a line such as `VmRSS:  1024 kB`; None where a system has no such file or line."""
    lines = file.read_text().splitlines() if file.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _left_by_container() -> float:
    """What a control group, of the second version, still allows; files that it could drop count as used."""
    limit, used = (_CGROUP / f"memory.{name}" for name in ("max", "current"))
    if not (limit.exists() and used.exists() and limit.read_text().strip().isdigit()):
        return math.inf
    return int(limit.read_text()) - int(used.read_text())
