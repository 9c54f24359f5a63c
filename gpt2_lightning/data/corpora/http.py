"""HTTP headers and failures of a download (RFC 9110)."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests


class Failure(Exception):
    """A failed request.

    Args:
        reason: cause of the failure.
        again: whether to retry the same mirror.
        pause: seconds that the server asks to wait.
    """

    def __init__(self, reason: str, again: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.again = again
        self.pause = pause


def version_of(response: requests.Response) -> str | None:
    """Return the validator for If-Range: a strong ETag, otherwise the date (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return first byte and total length of Content-Range, None where not given (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (whole_number(found[1]), whole_number(found[2])) if found else (None, None)


def whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def retry_after(response: requests.Response) -> float:
    """Return the seconds of Retry-After, given as seconds or a date; 0 without it (RFC 9110, 10.2.3)."""
    asked = response.headers.get("Retry-After", "")
    if (seconds := whole_number(asked)) is not None:
        return seconds
    with contextlib.suppress(ValueError, TypeError):
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    return 0.0


def failure_of(error: requests.RequestException) -> Failure:
    """Convert an exception without a response, with the innermost wrapped error as the reason."""
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
