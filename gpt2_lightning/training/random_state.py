"""State of torch's random number generators, so that a resumed run draws the same dropout masks."""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Generator state by device type."""


def capture(device: torch.device) -> State:
    """Return the state of the CPU's generator and of the device's generator."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore(state: State, device: torch.device) -> None:
    """Restore a captured state. The device's generator is restored only from a state of the same device type."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
