"""Whether a service answers, found out before something waits for it."""

from __future__ import annotations

import contextlib
import threading

SECONDS = 4.0


def answers(url: str, seconds: float = SECONDS) -> bool:
    """Whether a server gives any answer to a request for its page.

    Args:
        url: an address; the proxies of the environment are used.
        seconds: how long to wait at most, also for a name that does not resolve.
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
