"""What headers and failures of HTTP mean for a download (RFC 9110)."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests


class Failure(Exception):
    """Why a request failed, whether to try the same mirror again, and the pause in seconds that it asks for."""

    def __init__(self, reason: str, again: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.again = again
        self.pause = pause


def version_of(response: requests.Response) -> str | None:
    """What If-Range may name: a strong ETag, or else the date (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total length, each where it is given (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (whole_number(found[1]), whole_number(found[2])) if found else (None, None)


def whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, 0 where it does not; it names seconds or a date (RFC 9110, 10.2.3)."""
    asked = response.headers.get("Retry-After", "")
    if (seconds := whole_number(asked)) is not None:
        return seconds
    with contextlib.suppress(ValueError, TypeError):
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    return 0.0


def failure_of(error: requests.RequestException) -> Failure:
    """Of a request that got no answer: the system's own words, out of the exceptions that wrap them."""
    from requests import exceptions

    if isinstance(error, exceptions.ChunkedEncodingError):
        return Failure("the connection broke off in the middle", again=True)
    if not isinstance(error, (exceptions.ConnectionError, exceptions.Timeout)):
        return Failure(str(error), again=False)
    inner: BaseException | None = error
    while inner is not None and (isinstance(inner, exceptions.RequestException) or not isinstance(inner, OSError)):
        inner = inner.__cause__ or inner.__context__
    by = "the proxy: " if isinstance(error, exceptions.ProxyError) else ""
    return Failure(f"{by}{inner or error}", again=not isinstance(error, exceptions.SSLError))
