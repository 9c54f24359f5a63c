"""The verb as a process: its start, its end, and what it refuses."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpt2_lightning.app.commands.generation import serve
from gpt2_lightning.errors import UserError
from gpt2_lightning.serving.operation.server import Address

CHECKPOINT = Path(__file__).parent.parent / "compatibility" / "fixtures" / "chars"


class Process:
    """A server that was started by the verb."""

    def __init__(self, *settings: str) -> None:
        command = [sys.executable, "-m", "gpt2_lightning", "serve", f"checkpoint={CHECKPOINT}", "port=0", *settings]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.stderr = self.process.stderr
        self.lines: list[str] = []
        self.url = ""
        for line in self.stderr:
            self.lines.append(line)
            if " at http://" in f" {line}":
                self.url = f"http{line.split('http')[1].split(' ')[0]}"
                break
        self._rest = threading.Thread(target=lambda: self.lines.extend(self.stderr), daemon=True)
        self._rest.start()

    def __enter__(self) -> Process:
        wait_for_health(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.stderr.close()

    def has(self, text: str) -> bool:
        """Whether standard error has a text."""
        return text in "".join(self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._rest.join(5)
        return code


def wait_for_health(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(200):
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
def test_sigterm_ends_answers_then_exits_with_0_and_logs_no_text() -> None:
    body = {"model": "default", "prompt": "The sky", "max_tokens": 120, "slide": True, "stream": True, "seed": 1}
    texts: list[str] = []
    with Process("grace=30") as server:
        assert "parameters, context 32" in "".join(server.lines)
        reading = threading.Thread(target=lambda: texts.extend(_stream(server.url, body)))
        reading.start()
        while not texts:
            time.sleep(0.01)
        assert server.end() == 0
        reading.join(10)
    assert "".join(texts).endswith("data: [DONE]\n\n")
    log = "".join(server.lines)
    assert "POST '/v1/completions' 200" in log
    assert "sky" not in log
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_answers_beyond_the_grace_end_with_an_error(number: int, code: int) -> None:
    body = {"model": "default", "prompt": "The sky", "max_tokens": 4096, "slide": True, "stream": True}
    texts: list[str] = []
    with Process("grace=1", "log_texts=true") as server:
        reading = threading.Thread(target=lambda: texts.extend(_stream(server.url, body)))
        reading.start()
        while not texts:
            time.sleep(0.01)
        assert server.end(number) == code
        reading.join(10)
    assert '"code":"shutdown"' in texts[-1]
    log = "".join(server.lines)
    assert "sky" in log
    assert "Traceback" not in log


def _stream(url: str, body: dict[str, Any]) -> Iterator[str]:
    with httpx.stream("POST", f"{url}/v1/completions", json={**body, "ignore_end_of_text": True}, timeout=60) as answer:
        yield from answer.iter_text()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT distributes connections on Linux")
def test_two_workers_answer_behind_one_port_and_end_together() -> None:
    body = {"model": "default", "prompt": "The", "seed": 1, "max_tokens": 9}
    with Process("workers=2", "device=cpu") as server:
        connections = [httpx.post(f"{server.url}/v1/completions", json=body) for _ in range(20)]
        assert len({answer.json()["choices"][0]["text"] for answer in connections}) == 1
        while not (server.has("worker 1 of 2: at") and server.has("worker 2 of 2: at")):
            time.sleep(0.1)
        assert server.end() == 0
    assert server.has("worker 1 of 2")
    assert server.has("worker 2 of 2")


def test_port_in_use_is_refused_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port: {port} of 127.0.0.1 is in use; name another"):
            serve.run({"checkpoint": "/nothing", "port": port})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines; set api_key=KEY, or open=true"),
        ({"host": "192.168.0.1"}, "other machines"),
        ({"host": "example.invalid"}, "other machines"),
        ({"port": 70000}, "port: 70000"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPT2_LIGHTNING_API_KEY", raising=False)
    with pytest.raises(ValueError, match=message):
        serve.Config(**settings)


def test_key_of_the_environment_and_open_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve.Config(host="0.0.0.0", open=True).key is None
    monkeypatch.setenv("GPT2_LIGHTNING_API_KEY", "from-there")
    assert serve.Config(host="0.0.0.0").key == "from-there"
    assert serve.Config(host="0.0.0.0", api_key="own").key == "own"
    for host in ("localhost", "127.0.0.1", "127.0.0.5", "::1"):
        assert serve.is_loopback(host)


def test_addresses_that_are_none_of_this_machine() -> None:
    with pytest.raises(UserError, match="host"):
        Address("203.0.113.1", 8000).bind()
    with pytest.raises(UserError, match=r"host: no\.such\.host\.invalid"):
        Address("no.such.host.invalid", 8000).bind()


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run with a checkpoint"):
        serve.run({"runs_dir": str(tmp_path), "port": 0})
