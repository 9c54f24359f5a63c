"""Reachability of a logging server, with a timeout."""

from __future__ import annotations

import contextlib
import threading

SECONDS = 4.0


def answers(url: str, seconds: float = SECONDS) -> bool:
    """Whether a server sends any response to an HTTP request.

    Args:
        url: URL of the server; the proxies of the environment are used.
        seconds: timeout, which includes the resolution of the host name.
    """
    answered = threading.Event()

    def ask() -> None:
        import requests

        with contextlib.suppress(requests.RequestException):
            requests.head(url, timeout=seconds)
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
