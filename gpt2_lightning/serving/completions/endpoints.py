"""The endpoints that generate: completions and chat completions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from gpt2_lightning.generation import Piece, Sampling
from gpt2_lightning.serving.completions.parameters import (
    as_tensors,
    chat_ids,
    check_ids,
    prompts_of,
    room_for,
    sampling_of,
    seed_of,
)
from gpt2_lightning.serving.completions.shapes import ChatShape, CompletionShape, Json, Shape
from gpt2_lightning.serving.completions.texts import ChoiceText, Delta
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.lane import Job
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.reading import TextReader
from gpt2_lightning.serving.schemas import ChatRequest, CompletionRequest, GenerationRequest

T = TypeVar("T")
_COMPLETION_TOKENS = 16
"""Default of `max_tokens` in OpenAI's API."""
_CLIENT_CLOSED = 499
"""Status in the access log of a request whose client has gone away; nobody reads the answer."""


@dataclass(frozen=True)
class Plan:
    """A request that was checked."""

    served: ServedModel
    shape: Shape
    prompts: Sequence[list[int]]
    sampling: Sampling | None
    """None to generate nothing."""
    samples: int
    stop: tuple[str, ...]
    echoes: Sequence[Delta] = ()
    """What begins the texts of each prompt."""

    @property
    def n_choices(self) -> int:
        return len(self.prompts) * self.samples


class Completions:
    """Answers requests to generate.

    Args:
        engine: runs the models.
        readers: by the model's name.
        observe: called with the seconds from a request to its first token.
    """

    def __init__(self, engine: Engine, readers: dict[str, TextReader], observe: Callable[[float], None]) -> None:
        self._engine, self._readers, self._observe = engine, readers, observe

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """`POST /v1/completions`."""
        return await self._respond(await self._plan_completion(body), body, request)

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._respond(self._plan_chat(body), body, request)

    async def _plan_completion(self, body: CompletionRequest) -> Plan:
        served = self._engine.models.language_model(body.model, "generate")
        prompts, echo = prompts_of(body, served), bool(body.echo)
        if body.max_tokens == 0 and not echo:
            raise RequestError(400, "max_tokens: 0 generates nothing; set 1 or more, or echo=true", "max_tokens")
        limits = self._engine.limits
        count = room_for(prompts, body.max_tokens, _COMPLETION_TOKENS, body.slide, served, limits)
        alternatives = _alternatives(body, body.logprobs)
        sampling = self._sampling(body, served, max(1, count), alternatives)
        self._check_texts(len(prompts) * (body.n or 1), body)
        echoes = [await self._echo(served, ids, alternatives) for ids in prompts] if echo else []
        shape = CompletionShape(body, served)
        return Plan(served, shape, prompts, sampling if count else None, body.n or 1, _stop(body), echoes)

    def _plan_chat(self, body: ChatRequest) -> Plan:
        served = self._engine.models.language_model(body.model, "chat")
        if served.template is None:
            raise RequestError(
                400,
                f"{served.name} was not trained on instructions and has no template; use /v1/completions",
                "model",
                "wrong_model",
            )
        wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError(400, "top_logprobs: it needs logprobs=true", "top_logprobs")
        half = max(1, served.context // 2)
        ids = chat_ids(body.messages, served, (wanted or half) if body.slide else None)
        default = half if body.slide else served.context
        count = room_for([ids], wanted, default, body.slide, served, self._engine.limits)
        alternatives = _alternatives(body, (body.top_logprobs or 0) if body.logprobs else None)
        sampling = self._sampling(body, served, count, alternatives)
        self._check_texts(body.n or 1, body)
        stop = (*_stop(body), *served.template.stop)
        return Plan(served, ChatShape(body, served), [ids], sampling, body.n or 1, stop)

    def _sampling(self, body: GenerationRequest, served: ServedModel, count: int, alternatives: int | None) -> Sampling:
        check_ids([int(token) for token in body.logit_bias or ()], served, "logit_bias")
        return sampling_of(body, max_new_tokens=count, seed=seed_of(body), log_probabilities=alternatives)

    def _check_texts(self, count: int, body: GenerationRequest) -> None:
        if count > self._engine.limits.texts:
            raise RequestError(
                400, f"n: {count} texts are asked for, this server allows {self._engine.limits.texts}", "n"
            )

    async def _echo(self, served: ServedModel, ids: list[int], alternatives: int | None) -> Delta:
        if alternatives is None:
            return Delta(served.tokenizer.decode(ids), (), None)
        if len(ids) > served.context:
            raise RequestError(
                400,
                f"the prompt has {len(ids)} tokens, and the context of this model is {served.context} tokens: shorten "
                "it, or leave echo or log-probabilities out",
                "prompt",
                "context_length_exceeded",
            )
        reader = self._readers[served.name]
        tokens = await self._engine.call(lambda: reader.token_details(ids, alternatives))
        return Delta(served.tokenizer.decode(ids), tuple(tokens), None)

    async def _respond(self, plan: Plan, body: GenerationRequest, request: Request) -> Response:
        job, events = self._begin(plan, body)
        if body.stream:
            return _Stream(job, self._stream(plan, body, job, events))
        answer = await _unless_disconnected(request, self._whole(plan, job, events))
        if answer is None:
            job.cancelled = True
            return Response(status_code=_CLIENT_CLOSED)
        return JSONResponse(answer)

    def _begin(self, plan: Plan, body: GenerationRequest) -> tuple[Job, asyncio.Queue[Piece | RequestError]]:
        """Queue the texts of a request."""
        events: asyncio.Queue[Piece | RequestError] = asyncio.Queue()
        sampling = plan.sampling or Sampling()
        ends = () if body.ignore_end_of_text else plan.served.ends
        emit = self._engine.emitter(events)
        job = Job(as_tensors(plan.prompts), sampling, emit, plan.samples, plan.stop, ends)
        if plan.sampling is not None:
            self._engine.submit(plan.served, job)
        return job, events

    async def _deltas(
        self, plan: Plan, job: Job, events: asyncio.Queue[Piece | RequestError], usage: Json
    ) -> AsyncIterator[tuple[int, Delta]]:
        """Yield what is added to each choice, and count the tokens in `usage`."""
        usage |= {"prompt_tokens": sum(map(len, plan.prompts)), "completion_tokens": 0}
        for index in range(plan.n_choices if plan.echoes else 0):
            delta = plan.echoes[index // plan.samples]
            yield index, Delta(delta.text, delta.tokens, None if plan.sampling else "length")
        texts = [ChoiceText(plan.served) for _ in range(plan.n_choices if plan.sampling else 0)]
        left, is_first = len(texts), True
        try:
            while left:
                event = await events.get()
                if isinstance(event, RequestError):
                    raise event
                if is_first:
                    self._observe(time.monotonic() - job.begun)
                    is_first = False
                left -= event.finished is not None
                if (added := texts[event.row].add(event)) is not None:
                    yield event.row, added
        finally:
            job.cancelled = True  # if it has not ended
            usage["completion_tokens"] = sum(text.n_tokens for text in texts)
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]

    async def _whole(self, plan: Plan, job: Job, events: asyncio.Queue[Piece | RequestError]) -> Json:
        usage: Json = {}
        deltas: list[list[Delta]] = [[] for _ in range(plan.n_choices)]
        async for index, delta in self._deltas(plan, job, events, usage):
            deltas[index].append(delta)
        return plan.shape.answer([plan.shape.choice(i, found) for i, found in enumerate(deltas)], usage)

    async def _stream(
        self, plan: Plan, body: GenerationRequest, job: Job, events: asyncio.Queue[Piece | RequestError]
    ) -> AsyncIterator[str]:
        """Yield the data of each event."""
        usage: Json = {}
        for chunk in plan.shape.opening(plan.n_choices):
            yield _compact(chunk)
        try:
            async for index, delta in self._deltas(plan, job, events, usage):
                for chunk in plan.shape.chunks(index, delta):
                    yield _compact(chunk)
        except RequestError as error:
            yield _compact(error.body)
            return
        if body.stream_options and body.stream_options.include_usage:
            yield _compact(plan.shape.usage_chunk(usage))
        yield "[DONE]"


class _Stream(EventSourceResponse):
    """A stream that cancels its job however it ends."""

    def __init__(self, job: Job, content: AsyncIterator[str]) -> None:
        super().__init__(content, sep="\n", headers={"Cache-Control": "no-cache"})
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancelled = True


async def _unless_disconnected(request: Request, answer: Awaitable[T]) -> T | None:
    """Wait for an answer; None if the client goes away before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await answering if answering.done() else None
    finally:
        for task in (answering, leaving):
            task.cancel()


def _alternatives(body: GenerationRequest, logprobs: int | None) -> int | None:
    """Number of likeliest tokens to report; None to report no log-probabilities."""
    asked = [count for count in (body.alternatives, logprobs) if count is not None]
    return max(asked, default=None)


def _stop(body: GenerationRequest) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
