"""One process that serves: its socket, uvicorn and signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp

from gpt2_lightning.errors import UserError
from gpt2_lightning.serving.application import create_app
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.operation.connections import Connection
from gpt2_lightning.serving.operation.guard import Access, Guard
from gpt2_lightning.serving.operation.metrics import ACCESS, Measured, Metrics

_HEAD_BYTES = 16 * 2**10
_CONNECTIONS = 1000
_KEEP_ALIVE_SECONDS = 30
_SECONDS_TO_END = 3
"""After the grace, for the errors to be sent."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    """0 for a free one."""

    def bind(self, shared: bool = False) -> socket.socket:
        """Return a socket that is bound here and does not listen yet.

        Args:
            shared: whether other processes of this user bind the same address, between which the system distributes
                connections (SO_REUSEPORT).

        Raises:
            UserError: if the address is in use or not one of this machine.
        """
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            found = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise UserError(f"host: {self.host} is no address of a network: {error.strerror}") from None
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found.bind((self.host, self.port))
        except (OSError, OverflowError) as error:
            found.close()
            reason = getattr(error, "errno", None)
            if reason == errno.EADDRINUSE:
                raise UserError(
                    f"port: {self.port} of {self.host} is in use; name another, as in port={self.port + 1}, or 0 for a "
                    "free one"
                ) from None
            if reason == errno.EACCES:
                raise UserError(
                    f"port: {self.port} needs the rights of an administrator; name one above 1023"
                ) from None
            raise UserError(f"host: {self.host} is no address of this machine: {error}") from None
        return found


def url_of(bound: socket.socket) -> str:
    """The address of a bound socket, for browsers."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def guarded(engine: Engine, access: Access, logs_bodies: bool = False) -> ASGIApp:
    """The application of an engine behind all checks."""
    metrics = Metrics(engine)
    app = create_app(engine, metrics)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    return Measured(Guard(app, access), metrics, paths, logs_bodies)


def serve(app: ASGIApp, engine: Engine, bound: socket.socket, grace: int) -> None:
    """Serve until SIGTERM or Ctrl-C, and then until all answers have ended.

    Args:
        app: the application.
        engine: its engine.
        bound: the socket.
        grace: seconds that answers have to end.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    if not ACCESS.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        ACCESS.addHandler(handler)
        ACCESS.setLevel(logging.INFO)
        ACCESS.propagate = False
    server = Server(app, engine, grace)
    server.run(sockets=[bound])
    if signal.SIGINT in server.received:
        raise KeyboardInterrupt


class Server(uvicorn.Server):
    """uvicorn's server with the limits of this one, which ends after SIGTERM normally and not by the signal.

    Args:
        app: the application.
        engine: its engine, which ends the answers that take longer than the grace.
        grace: seconds that answers have to end.
    """

    def __init__(self, app: ASGIApp, engine: Engine, grace: int) -> None:
        AppStatus.disable_automatic_graceful_drain()  # streams go on until they end, or until the grace is over
        super().__init__(_config(app, grace))
        self._engine, self._grace = engine, grace
        self.received: list[int] = []
        """Signals that came."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: wait for answers, and then end those that are left with an error."""
        over = asyncio.get_running_loop().call_later(self._grace, self._engine.stop)
        await super().shutdown(sockets)
        over.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Context manager in which signals end the server, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            self.force_exit = number in self.received  # the second one ends at once
            self.received.append(number)
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _config(app: ASGIApp, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace + _SECONDS_TO_END,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
