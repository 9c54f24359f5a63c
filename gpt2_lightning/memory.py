"""Memory of a device: peak use, available bytes, and detection of out-of-memory errors."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path

import torch

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SIGNS = ("allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
"""Substrings of RuntimeErrors for out of memory on the CPU, on Apple GPUs, in cuBLAS and in cuDNN, which have no
exception class."""


def peak(device: torch.device) -> int | None:
    """Return the peak memory of this process in bytes; None if unknown.

    On a GPU, the memory of tensors (CUDA) or of the driver (MPS); on the CPU, the resident set size.
    """
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
    """Reset the value of `peak`, on systems that support it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        with contextlib.suppress(OSError):  # may be forbidden in a sandbox
            _CLEAR_REFS.write_text(_RESET_PEAK)


def usable(device: torch.device, processes: int = 1) -> int | None:
    """Return the memory that this process can use in bytes, including what it uses already; None if unknown.

    Args:
        device: device of the process; a GPU is not shared.
        processes: number of processes on this machine, which share its main memory equally.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    left, own = left_of_main(), _field(_STATUS, "VmRSS")
    return None if device.type != "cpu" or left is None or own is None else left // processes + own


def held_by_others(device: torch.device) -> tuple[int, int]:
    """Return the bytes of a GPU that tensors of this process do not hold and that are not free, and all its bytes."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device), total


def left_of_main() -> int | None:
    """Return the available main memory in bytes; None if unknown."""
    available = _field(_MEMINFO, "MemAvailable")
    return None if available is None else int(min(available, _left_by_container()))


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception means out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def _field(file: Path, name: str) -> int | None:
    """Parse a line such as `VmRSS:  1024 kB` to bytes; None if there is no such file or line."""
    lines = file.read_text().splitlines() if file.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _left_by_container() -> float:
    """Return the bytes below the limit of the control group (cgroup v2); the page cache counts as used."""
    limit, used = (_CGROUP / f"memory.{name}" for name in ("max", "current"))
    if not (limit.exists() and used.exists() and limit.read_text().strip().isdigit()):
        return math.inf
    return int(limit.read_text()) - int(used.read_text())
