"""What every request passes before the application: checks of host, origin, key and size, and the security headers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt2_lightning.serving.errors import RequestError

_OPEN_PATHS = ("/", "/health")
"""Paths that need no key: the page, which asks for one, and what probes of containers read."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
"""Names in the Host header by which a client addresses its own machine."""


@dataclass(frozen=True)
class Access:
    """Who may send which requests."""

    hosts: Collection[str] | None = THIS_MACHINE
    """Names in the Host header that are accepted, with any port; None for all. A page of another site that points its
    own name to this machine (DNS rebinding) has another one."""
    api_key: str | None = None
    """The key that requests have as a Bearer token; None for none."""
    header_bytes: int = 2**14
    """Most bytes of all headers."""
    body_bytes: int = 2**20
    """Largest body."""
    body_seconds: float = 20.0
    """Time in which a body must arrive."""


class Guard:
    """ASGI middleware that refuses requests before the application sees them, in OpenAI's shape of errors.

    Bodies are read here, in full and up to the limit. No header of CORS is ever sent, so that browsers keep answers
    from pages of other sites; requests that such pages send are refused as well.

    Args:
        app: the application.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
            body = await self._body(Headers(scope=scope), receive)
        except RequestError as error:
            headers = error.headers
            if error.status in (408, 413):
                headers["Connection"] = "close"  # the rest of the body is not read
            await JSONResponse(error.body, error.status, headers)(scope, receive, send_with_headers)
            return
        scope["body"] = body
        is_read = False

        async def receive_body() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send_with_headers)

    def _check(self, path: str, headers: Headers) -> None:
        """Check host, origin and key.

        Raises:
            RequestError: if one does not fit.
        """
        if sum(len(name) + len(value) for name, value in headers.raw) > self._access.header_bytes:
            raise RequestError(431, f"the headers exceed {self._access.header_bytes:,} bytes", code="too_large")
        host = headers.get("host", "")
        if self._access.hosts is not None and _without_port(host) not in self._access.hosts:
            raise RequestError(
                403, f"the host {host[:100]!r} is not one of this server; name it with hosts=[…]", code="unknown_host"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise RequestError(403, "pages of other sites may not use this server", code="other_origin")
        if self._access.api_key is not None and path not in _OPEN_PATHS and not self._has_key(headers):
            raise RequestError(
                401, "a key is needed: send the header Authorization: Bearer KEY", code="invalid_api_key"
            )

    def _has_key(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        expected = (self._access.api_key or "").encode()
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), expected)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Read the body.

        Raises:
            RequestError: 413, if it is too large; 408, if it takes too long.
        """
        most = self._access.body_bytes
        too_large = RequestError(
            413, f"the body is larger than {most:,} bytes, the most that is read", code="too_large"
        )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._access.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(400, "the client closed the connection")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RequestError(
                408, f"the body did not arrive within {self._access.body_seconds:g} s", code="body_timeout"
            ) from None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
