"""The scheduling of one model's requests: which wait, which prompt is read, and which texts are generated."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Piece, Sampling, Token
from gpt2_lightning.generation.text import StoppableText, piece_of
from gpt2_lightning.serving.continuous import CHUNK, ContinuousBatch, Prefill, RunningText
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.models import ServedModel

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much a server does at a time."""

    rows: int = 8
    """Texts of a model that are generated at once."""
    queue: int = 64
    """Requests that wait for a model, at most; beyond them the answer is 429."""
    texts: int = 128
    """Texts of a request."""
    tokens: int = 4096
    """Tokens of a text."""
    seconds: float = 600.0
    """Time of a request, with its wait; then the answer is an error."""


@dataclass(eq=False)
class Job:
    """The texts of a request: `samples` after each prompt.

    They have the row numbers, and so the seeds, that `generate` gives them: those of the first prompt come first.
    """

    prompts: Sequence[Tensor]
    sampling: Sampling
    emit: Callable[[Piece | RequestError], None]
    """Called in the engine's thread: with each piece of each text, whose last one is `finished`; or with an error,
    which ends all texts."""
    samples: int = 1
    stop: tuple[str, ...] = ()
    ends: Collection[int] = ()
    begun: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    """Set when no more pieces are wanted, by any thread."""
    prompts_begun: int = 0
    texts_left: int = field(init=False)
    """Texts that have not ended."""

    def __post_init__(self) -> None:
        self.texts_left = len(self.prompts) * self.samples


class GenerationLane:
    """The requests of one language model.

    Requests are served in the order of their arrival. One with several prompts has one of them read at a time and then
    goes behind the others. Prompts are read in chunks, between which every running text has its next token.

    Args:
        served: the model.
        limits: the limits.
    """

    def __init__(self, served: ServedModel, limits: Limits) -> None:
        self.served, self._limits = served, limits
        self.waiting: deque[Job] = deque()
        self._reading: tuple[Job, Prefill, deque[int]] | None = None  # and the rows of its texts that have not begun
        self._texts: dict[RunningText, tuple[Job, StoppableText]] = {}
        self._batch = ContinuousBatch(served.model, limits.rows)
        self.seconds_of_a_job = 1.0
        """A moving average."""
        self.generated_tokens = 0
        self.prompt_tokens = 0
        """Tokens since the start."""

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting or self._reading or self._texts)

    @property
    def n_running(self) -> int:
        """Number of texts in the batch."""
        return len(self._batch.texts)

    def advance(self) -> None:
        """Process a chunk of a prompt, and generate a token of each text."""
        self._drop_ended()
        try:
            self._admit()
            for text, token in self._batch.step():
                self._handle(text, token)
        except Exception as error:  # such as too little memory; the server goes on without these requests
            _LOG.exception("generation failed")
            self.fail_all(RequestError(500, f"generation failed: {type(error).__name__}", code="generation_failed"))

    def fail_all(self, error: RequestError) -> None:
        """End every request with an error, and begin an empty batch."""
        jobs = self._jobs()
        self.waiting.clear()
        self._reading, self._texts = None, {}
        self._batch = ContinuousBatch(self.served.model, self._limits.rows)
        for job in jobs:
            job.emit(error)

    def _jobs(self) -> set[Job]:
        found = {job for job, _ in self._texts.values()} | set(self.waiting)
        return found | {self._reading[0]} if self._reading else found

    def _drop_ended(self) -> None:
        """Remove the texts of requests that were cancelled or whose time is over."""
        now, jobs = time.monotonic(), self._jobs()
        for job in jobs:
            if not job.cancelled and now - job.begun > self._limits.seconds:
                job.cancelled = True
                job.emit(RequestError(503, f"it took longer than {self._limits.seconds:g} s", code="timeout"))
        if not any(job.cancelled for job in jobs):
            return
        self.waiting = deque(job for job in self.waiting if not job.cancelled)
        if self._reading and self._reading[0].cancelled:
            self._reading = None
        for text in [text for text, (job, _) in self._texts.items() if job.cancelled]:
            del self._texts[text]
            self._batch.leave(text)

    def _admit(self) -> None:
        """While rows are free, read prompts, up to `CHUNK` tokens; let the texts of those that are read join."""
        left = CHUNK
        while self._batch.free and (self._reading or self.waiting):
            job, prefill, rows = self._reading = self._reading or self._next_prompt()
            if prefill.chunk > left:
                return
            left -= prefill.chunk
            if prefill.logits is None and not prefill.advance():
                return
            while rows and self._batch.free and not job.cancelled:
                self._begin(job, prefill, rows.popleft())
            if not rows or job.cancelled:
                self._reading = None

    def _next_prompt(self) -> tuple[Job, Prefill, deque[int]]:
        """Take the prompt of the request that has waited longest."""
        job = self.waiting.popleft()
        first = job.prompts_begun * job.samples
        prefill = Prefill(self.served.model, job.prompts[job.prompts_begun])
        job.prompts_begun += 1
        if job.prompts_begun < len(job.prompts):
            self.waiting.append(job)
        self.prompt_tokens += len(prefill.prompt)
        return job, prefill, deque(range(first, first + job.samples))

    def _begin(self, job: Job, prefill: Prefill, row: int) -> None:
        text = RunningText(prefill, job.sampling, row, job.ends)
        self._texts[text] = job, StoppableText(self.served.tokenizer, job.stop)
        try:
            token: Token | UserError = self._batch.join(text, prefill)
        except UserError as error:
            token = error
        self._handle(text, token)

    def _handle(self, text: RunningText, token: Token | UserError) -> None:
        """Emit what a token adds to its text, and remove the text if it ends."""
        job, decoded = self._texts[text]
        if isinstance(token, UserError):
            del self._texts[text]
            job.cancelled = True  # with its other texts
            job.emit(RequestError(400, str(token), code="no_token"))
            return
        self.generated_tokens += 1
        piece = piece_of(token, decoded)
        if piece.finished:
            del self._texts[text]
            if token.finished is None:  # ended by a stop string, not by its token
                self._batch.leave(text)
            job.texts_left -= 1
            if not job.texts_left:
                self.seconds_of_a_job += 0.1 * (time.monotonic() - job.begun - self.seconds_of_a_job)
        job.emit(piece)
