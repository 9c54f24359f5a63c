"""Output of benchmark results, with a description of the machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent / "results"


def report(name: str, figures: dict[str, float]) -> None:
    """Print results, and save them as `results/NAME.json`."""
    save(name, figures)
    for key, value in figures.items():
        print(f"{key}: {value}")


def save(name: str, figures: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Save results as `NAME.json` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"command": f"python -m benchmarks.{name}", "figures": figures, "machine": machine()}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Describe this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    names = [line for line in cpus.read_text().splitlines() if line.startswith("model name")] if cpus.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor()
