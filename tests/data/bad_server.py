"""A server whose answers are written down beforehand, faults included."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_STEP_BYTES = 2**16


@dataclass(frozen=True)
class Answer:
    """One answer. Range and If-Range are honoured as RFC 9110 says, unless told otherwise."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = '"first"'
    knows_ranges: bool = True
    """Otherwise a request for a part gets all of it."""
    minds_if_range: bool = True
    """Otherwise a part is sent of whatever version there is."""
    shifts_range: int = 0
    """The part that is sent starts so many bytes after the one that was asked for."""
    at_most: int | None = None
    """No part has more bytes than this, whatever was asked for."""
    promises: int = 0
    """Bytes in Content-Length that never come."""
    has_length: bool = True
    drops_after: int | None = None
    """The connection is closed after so many bytes of the body."""
    stalls_after: int | None = None
    """Nothing more comes after so many bytes, and the connection stays open."""
    seconds_a_step: float = 0.0
    """Waited after each 64 KiB."""


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str
    headers: dict[str, str]


class BadServer(ThreadingHTTPServer):
    """Gives the answers of each path in turn, the last one again and again; 404 elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._scripts: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()

    def answer(self, path: str, *answers: Answer) -> str:
        """Write down the answers of a path; its address."""
        self._scripts[path] = list(answers)
        return self.url + path

    def next_answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(request.path, [Answer(status=404)])
            return script.pop(0) if len(script) > 1 else script[0]


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def do_GET(self) -> None:
        answer = self.server.next_answer(Request(self.path, dict(self.headers)))
        start = self._start(answer)
        status = answer.status
        headers = dict(answer.headers)
        if answer.etag:
            headers["ETag"] = answer.etag
        if start is not None and start >= len(answer.body):
            status, body = 416, b"no such bytes"
            headers["Content-Range"] = f"bytes */{len(answer.body)}"
        elif start is not None:
            first = start + answer.shifts_range
            last = len(answer.body) if answer.at_most is None else first + answer.at_most
            status, body = 206, answer.body[first:last]
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(answer.body)}"
        else:
            body = answer.body
        if answer.has_length:
            headers.setdefault("Content-Length", str(len(body) + answer.promises))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self._send(answer, body)
        self.close_connection = True

    def _start(self, answer: Answer) -> int | None:
        asked = self.headers.get("Range")
        if asked is None or not answer.knows_ranges or answer.status != 200:
            return None
        version = self.headers.get("If-Range")
        if answer.minds_if_range and version not in (None, answer.etag, answer.headers.get("Last-Modified")):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, answer: Answer, body: bytes) -> None:
        ends = [end for end in (answer.drops_after, answer.stalls_after) if end is not None]
        body = body[: min(ends, default=len(body))]
        for step in range(0, len(body), _STEP_BYTES):
            self.wfile.write(body[step : step + _STEP_BYTES])
            time.sleep(answer.seconds_a_step)
        if answer.stalls_after is not None:
            self.server.closing.wait(60)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name in http.server)
        """Not on the terminal."""


@contextlib.contextmanager
def bad_server() -> Iterator[BadServer]:
    """A server on a free port of this machine."""
    with BadServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
