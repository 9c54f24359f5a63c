"""Clients that go away, read nothing or say nothing; and many of them."""

from __future__ import annotations

import asyncio
import gc
import json
import mmap
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.operation.connections import Connection
from tests.serving.expected import PROMPTS, expected
from tests.serving.running import running, wait_until
from tests.serving.served import language_model, run

ENDLESS = {"model": "letters", "prompt": "one", "max_tokens": 4000, "slide": True, "ignore_end_of_text": True}


def request(body: dict[str, Any]) -> bytes:
    """A completion as bytes of HTTP."""
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def is_cut_off(connection: socket.socket) -> bool:
    """Read until the server closes the connection, in order or by a reset."""
    try:
        while connection.recv(100):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("stream", [True, False])
def test_rows_are_free_as_soon_as_a_client_goes_away(stream: bool) -> None:
    with running(limits=Limits(rows=2)) as (port, engine):
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        for connection in connections:
            connection.sendall(request({**ENDLESS, "stream": stream}))
        wait_until(lambda: (engine.n_running, engine.n_waiting) == (2, 2))
        for connection in connections:
            connection.close()
        wait_until(lambda: (engine.n_running, engine.n_waiting) == (0, 0))


def test_silent_connections_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.3)
    with running() as (port, _):
        for sent in (b"", b"GET /health HT", request(ENDLESS)[:40]):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(sent)
                assert is_cut_off(connection)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET /hea")  # and no more
            assert is_cut_off(connection)


@pytest.mark.slow
def test_client_that_stops_reading_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "stall_seconds", 0.5)
    with running(limits=Limits(rows=1)) as (port, engine):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        with connection:
            connection.sendall(request({**ENDLESS, "stream": True, "alternatives": 20, "logprobs": 20}))
            wait_until(lambda: engine.n_running == 1)
            wait_until(lambda: engine.n_running == 0, 60)  # and reads nothing
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json={"model": "letters", "prompt": "a"})
        assert answer.is_success


def test_heads_beyond_the_limit_are_refused() -> None:
    with running() as (port, _), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 431")


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 on systems without /proc."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * mmap.PAGESIZE if file.exists() else 0


@pytest.mark.slow
def test_two_hundred_connections_of_which_half_are_cut() -> None:
    model = language_model()
    texts = {prompt: expected(model, prompt, 25, seed=7) for prompt in PROMPTS}

    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        prompt = PROMPTS[number % len(PROMPTS)]
        body = {"model": "letters", "prompt": prompt, "max_tokens": 25, "seed": 7}
        if number % 2:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05 + 0.01 * number):
                    await client.post("/v1/completions", json={**ENDLESS, "stream": number % 4 == 1})
            return True
        answer = await client.post("/v1/completions", json=body)
        return bool(answer.json()["choices"][0]["text"] == texts[prompt])

    with running(limits=Limits(queue=300)) as (port, engine):
        url = f"http://127.0.0.1:{port}"

        async def test() -> None:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
                assert all(await asyncio.gather(*[ask(client, number) for number in range(200)]))

        memory = []
        for _ in range(2):  # the first time, libraries allocate what they keep
            run(test)
            wait_until(lambda: (engine.n_running, engine.n_waiting) == (0, 0))
            gc.collect()
            memory.append(resident_bytes())
        assert memory[1] - memory[0] < 2**24
        (lane,) = engine.lanes.values()
        assert not lane.is_busy
        from gpt2_lightning.serving.continuous import Prefill, RunningText
        from gpt2_lightning.serving.lane import Job

        left = [found for found in gc.get_objects() if type(found) in (Prefill, RunningText, Job)]
        assert left == []
