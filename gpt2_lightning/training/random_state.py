"""torch's random generators as tensors, so that dropout after a resume draws what it would have drawn."""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]
"""State of the generator of each kind of device that a process uses."""


def capture(device: torch.device) -> State:
    """The state of the CPU's generator, and of the device's where it is another."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore(state: State, device: torch.device) -> None:
    """Go on from a saved state, where it is that of the same kind of device."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
