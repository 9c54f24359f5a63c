"""The thread that owns the models: it generates for all requests, and runs other computations between two tokens."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from gpt2_lightning.generation import Piece
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.lane import GenerationLane, Job, Limits
from gpt2_lightning.serving.models import Models, ServedModel

T = TypeVar("T")
_LONGEST_RETRY = 60


class Engine:
    """Runs the models of a server in a thread of its own.

    Args:
        models: the models.
        limits: the limits of each model.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.lanes = {
            name: GenerationLane(served, limits) for name, served in models.by_name.items() if served.labels is None
        }
        """By the model's name; classifiers have none."""
        self._calls: deque[Callable[[], None]] = deque()
        self._arrived: deque[tuple[GenerationLane, Job]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outgoing: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start the thread; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current step; requests that it has left end with an error."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self.stop()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return len(self._arrived) + sum(len(lane.waiting) for lane in self.lanes.values())

    @property
    def n_running(self) -> int:
        """Texts that are generated."""
        return sum(lane.n_running for lane in self.lanes.values())

    async def call(self, function: Callable[[], T]) -> T:
        """Run a computation between two tokens.

        Raises:
            RequestError: 429, if too many wait.
        """
        if len(self._calls) >= self.limits.queue:
            raise _too_busy(len(self._calls), 1)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            if answer.cancelled():
                return
            done: Future[T] = Future()
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)
            self._outgoing.append(lambda: _transfer(done, answer))

        with self._changed:
            self._calls.append(run)
            self._changed.notify()
        return await answer

    def submit(self, served: ServedModel, job: Job) -> None:
        """Queue a job; its answers are collected by `collecting`.

        Raises:
            RequestError: 429, if too many wait.
        """
        lane = self.lanes[served.name]
        waiting = len(lane.waiting) + len(self._arrived)
        if waiting >= self.limits.queue:
            raise _too_busy(waiting, lane.seconds_of_a_job * waiting / self.limits.rows)
        with self._changed:
            self._arrived.append((lane, job))
            self._changed.notify()

    def emitter(self, queue: asyncio.Queue[Piece | RequestError]) -> Callable[[Piece | RequestError], None]:
        """A function for `Job.emit` that puts events into a queue of the event loop."""
        return lambda event: self._outgoing.append(lambda: queue.put_nowait(event))

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            for served in self.models.by_name.values():
                stack.enter_context(packed(served.classifier or served.model))
            while self._wait():
                if self._calls:
                    self._calls.popleft()()
                for lane in self.lanes.values():
                    if lane.is_busy:
                        lane.advance()
                self._deliver()
        while self._calls:
            self._calls.popleft()()
        for lane in self.lanes.values():
            lane.fail_all(RequestError(503, "the server ends", code="shutdown"))
        self._deliver()

    def _wait(self) -> bool:
        """Wait until there is something to do; return False at the end."""
        with self._changed:
            while not (
                self._closing or self._calls or self._arrived or any(lane.is_busy for lane in self.lanes.values())
            ):
                self._changed.wait()
            while self._arrived:
                lane, job = self._arrived.popleft()
                lane.waiting.append(job)
            return not self._closing

    def _deliver(self) -> None:
        """Hand the events of a step to the event loop, all at once."""
        events, self._outgoing = self._outgoing, []
        if events and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(lambda: [event() for event in events])


def _transfer(done: Future[T], answer: asyncio.Future[T]) -> None:
    """Set an answer in the event loop, unless nobody waits for it any more."""
    if answer.done():
        return
    if error := done.exception():
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _too_busy(waiting: int, seconds: float) -> RequestError:
    retry = min(max(1, math.ceil(seconds)), _LONGEST_RETRY)
    return RequestError(
        429, f"{waiting} requests wait, the most that this server keeps; try again in {retry} s",
        code="queue_full", retry_after=retry,
    )  # fmt: skip
