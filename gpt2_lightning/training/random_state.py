"""torch's random generators as tensors, so that dropout after a resume draws what it would have drawn."""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, list[Tensor]]


def capture() -> State:
    """The state of the CPU's generator and of every CUDA device's."""
    state: State = {"cpu": [torch.get_rng_state()]}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: State) -> None:
    """Go on from a saved state; that of devices which this machine lacks is passed over."""
    torch.set_rng_state(state["cpu"][0])
    for device, saved in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)
