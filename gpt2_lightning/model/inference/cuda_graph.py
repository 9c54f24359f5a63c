"""Capture of a function of tensors as a CUDA graph."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
log = logging.getLogger(__name__)


class CUDAGraphFunction(Generic[T]):
    """A function without arguments whose kernels, from its third call on, are launched all at once.

    The function reads and writes tensors that keep their addresses, takes no decision by their values, and draws no
    random numbers. The first call runs it as it is, on the stream of the capture: libraries allocate their workspaces,
    and compiled code is compiled. The second call captures it. What it returns stays at its addresses from then on, and
    is overwritten by every call.

    A function that cannot be captured is run as it is, after a warning; so is any function under autocast, whose copies
    of the weights are freed when its context ends.

    Memory: what the function allocates, in a pool of its own, for as long as this object lives.

    Args:
        function: the function.
        device: the GPU that it runs on.
    """

    def __init__(self, function: Callable[[], T], device: torch.device) -> None:
        self._function, self._device, self._stream = function, device, _capture_stream(device)
        self._is_warm = False
        self._replay: Callable[[], T] | None = None

    def __call__(self) -> T:
        if torch.is_autocast_enabled("cuda"):
            return self._function()
        if not self._is_warm:
            self._is_warm = True
            return self._warm_up()
        if self._replay is None:
            self._replay = self._capture()
        return self._replay()

    def _warm_up(self) -> T:
        """Run the function on the stream of the capture; see the notes on CUDA graphs in PyTorch's documentation."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = self._function()
        current.wait_stream(self._stream)
        return result

    def _capture(self) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.stream(self._stream),  # `graph` does not leave the stream where the capture fails
                # Other threads, such as those that pin memory or watch collectives, may use CUDA meanwhile.
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                result = self._function()
        except RuntimeError as error:
            cause = str(error.__context__ or error).partition("\n")[0]  # the end of a failed capture fails as well
            log.warning("decoding runs without a CUDA graph, since its step cannot be captured: %s", cause)
            return self._function

        def replay() -> T:
            graph.replay()
            return result

        return replay


@functools.cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all captures on a device: libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)
