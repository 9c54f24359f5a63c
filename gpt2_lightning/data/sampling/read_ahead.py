"""DataLoader that reads the next batches while the current one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

T = TypeVar("T")
_DEPTH = 2
"""Batches that are read before they are needed."""


class ReadAheadLoader(DataLoader[Any]):
    """DataLoader that reads batches on a thread, and pins their memory there.

    A worker process would have to receive the data set and send its batches through shared memory, which containers
    limit, and could be killed by itself. A thread suffices, since a batch is a few reads of files or arrays, which take
    less than a step.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch declares its own class of iterators
        on_same_gpu = partial(torch.cuda.set_device, torch.cuda.current_device()) if self.pin_memory else None
        return read_ahead(super().__iter__(), on_same_gpu)


def read_ahead(values: Iterator[T], prepare: Callable[[], object] | None = None) -> Iterator[T]:
    """Yield the values of an iterator, the next of which are read on a thread meanwhile.

    An exception of the iterator is raised in place of the value.

    Args:
        values: the iterator; only the thread advances it.
        prepare: called first on the thread.
    """
    end = object()
    thread = ThreadPoolExecutor(1, "read-ahead", prepare)
    try:
        pending = deque(thread.submit(next, values, end) for _ in range(_DEPTH))
        while (value := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, values, end))
            yield value  # type: ignore[misc]  # it is not the end
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
