"""Servers on a free port of this machine, in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.serving.operation.guard import Access
from gpt2_lightning.serving.operation.server import Address, Server, guarded
from tests.serving.served import loaded


@contextlib.contextmanager
def running(
    *models: LoadedModel, limits: Limits | None = None, access: Access | None = None
) -> Iterator[tuple[int, Engine]]:
    """Port and engine of a server, which ends its answers before it ends."""
    engine = Engine(Models(models or [loaded()]), limits or Limits())
    bound = Address("127.0.0.1", 0).bind()
    server = Server(guarded(engine, access or Access()), engine, grace=5)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield bound.getsockname()[1], engine
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition; fail if it does not hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.01)
