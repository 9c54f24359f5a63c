"""Metrics in Prometheus's format, and the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt2_lightning.serving.engine import Engine

ACCESS = logging.getLogger("gpt2_lightning.access")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_ABORTED = 499
"""Status of a request whose client went away before the answer began."""


class Metrics:
    """The metrics of a server.

    Args:
        engine: its engine.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine))
        self.requests = Counter(
            "gpt2_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "gpt2_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.first_token = Histogram(
            "gpt2_first_token_seconds",
            "Seconds from a request to its first token.",
            buckets=_SECONDS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """The answer of `/metrics`."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Reads the engine's counts when metrics are asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        lanes = self._engine.lanes
        running = GaugeMetricFamily("gpt2_running_texts", "Texts that are generated.", labels=["model"])
        waiting = GaugeMetricFamily("gpt2_waiting_requests", "Requests that wait.", labels=["model"])
        read = CounterMetricFamily("gpt2_prompt_tokens", "Tokens of prompts.", labels=["model"])
        written = CounterMetricFamily("gpt2_generated_tokens", "Tokens generated.", labels=["model"])
        for name, lane in lanes.items():
            running.add_metric([name], lane.n_running)
            waiting.add_metric([name], len(lane.waiting))
            read.add_metric([name], lane.prompt_tokens)
            written.add_metric([name], lane.generated_tokens)
        yield from (running, waiting, read, written)


class Measured:
    """ASGI middleware that counts requests and writes the access log: method, path, status and seconds.

    Args:
        app: the application, with its checks.
        metrics: to count in.
        paths: paths that are counted by name; others are counted together.
        logs_bodies: whether the access log has the bodies of requests, with their texts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], logs_bodies: bool) -> None:
        self._app, self._metrics, self._paths, self._logs_bodies = app, metrics, paths, logs_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), _ABORTED

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - begun
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            client = (scope.get("client") or ("-",))[0]
            body = f" {scope['body'].decode(errors='replace')!r}" if self._logs_bodies and scope.get("body") else ""
            ACCESS.info("%s %s %r %d %.3f s%s", client, scope["method"], path_of(scope), status, seconds, body)


def path_of(scope: Scope) -> str:
    """The path, without the query and within the length of a line."""
    path: str = scope["path"]
    return path if len(path) <= 100 else f"{path[:99]}…"
