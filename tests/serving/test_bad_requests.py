"""Requests that are refused: in OpenAI's shape, with what is wrong, and nothing left in the engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.serving.operation.guard import THIS_MACHINE, Access
from gpt2_lightning.serving.operation.server import guarded
from tests.serving.served import instruct_model, loaded, run, serving

JSON = {"content-type": "application/json"}
USER = {"role": "user", "content": "who?"}
COMPLETIONS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"model": None}, "model", "valid string"),
    ({"model": "gpt-5"}, "model", "there is no model 'gpt-5'; this server has letters"),
    ({"prompt": 5}, "prompt", "prompt"),
    ({"prompt": None}, "prompt", "prompt"),
    ({"prompt": []}, "prompt", "the list is empty"),
    ({"prompt": [[]]}, "prompt", "no token ids"),
    ({"prompt": [-1]}, "prompt", "greater than or equal to 0"),
    ({"prompt": [10**9]}, "prompt", "the id 1000000000 is out of range"),
    ({"prompt": "a" * 65}, "prompt", "the prompt has 65 tokens, and the context of this model is 64 tokens"),
    ({"max_tokens": 65}, "max_tokens", "the context of this model is 64 tokens, and 65 are asked for"),
    ({"max_tokens": 5000}, "max_tokens", "5000 is out of range, this server allows 4096"),
    ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
    ({"max_tokens": 0}, "max_tokens", "0 generates nothing"),
    ({"max_tokens": "9"}, "max_tokens", "valid integer"),
    ({"max_tokens": 2.5}, "max_tokens", "valid integer"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 1000}, "n", "less than or equal to 128"),
    ({"n": 128, "prompt": ["a", "b"]}, "n", "256 texts are asked for, this server allows 128"),
    ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    ({"temperature": "hot"}, "temperature", "valid number"),
    ({"temperature": True}, "temperature", "valid number"),
    ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
    ({"top_k": 0}, "top_k", "greater than or equal to 1"),
    ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
    ({"logit_bias": {"a": 1}}, "logit_bias", "pattern"),
    ({"logit_bias": {"999": 1}}, "logit_bias", "the id 999 is out of range"),
    ({"logit_bias": {str(i): float(-(10**9)) for i in range(2)}, "seed": 2**70}, "seed", "less than"),
    ({"stop": ""}, "stop", "at least 1 character"),
    ({"stop": ["a"] * 17}, "stop", "at most 16"),
    ({"logprobs": 50}, "logprobs", "less than or equal to 20"),
    ({"best_of": 3}, "best_of", "1"),
    ({"suffix": "end"}, "suffix", "None"),
    ({"stream": "yes"}, "stream", "valid boolean"),
    ({"temprature": 1}, "temprature", "Unrecognized request argument supplied: temprature"),
]
CHATS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": "who?"}, "messages", "valid list"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "messages", "'user'"),
    ({"messages": [USER, USER]}, "messages", "the roles are user, user"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "messages", "the roles are assistant"),
    ({"messages": [{"role": "system", "content": "a"}]}, "messages", "the roles are system"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages", "empty"),
    ({"messages": [{"role": "user", "content": None}]}, "messages", "content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages", "text"),
    ({"messages": [{"role": "user", "content": "a" * 80}]}, "prompt", "the prompt has 85 tokens"),
    ({"tools": [{"type": "function"}]}, "tools", "at most 0"),
    ({"response_format": {"type": "json_object"}}, "response_format", "'text'"),
    ({"top_logprobs": 2}, "top_logprobs", "needs logprobs=true"),
]


async def refused(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The error that a request has."""
    answer = await client.post(path, json=body)
    assert answer.status_code == (404 if body.get("model") == "gpt-5" else 400), answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


def test_completions_that_are_refused() -> None:
    async def test() -> None:
        async with serving() as (client, engine):
            for changes, param, message in COMPLETIONS:
                error = await refused(client, "/v1/completions", {"model": "letters", "prompt": "a", **changes})
                assert error["param"] == param, error
                assert message in error["message"], error
            assert (engine.n_running, engine.n_waiting) == (0, 0)
            assert (await client.post("/v1/completions", json={"model": "letters", "prompt": "a"})).is_success

    run(test)


def test_chats_that_are_refused() -> None:
    async def test() -> None:
        async with serving(instruct_model()) as (client, _):
            for changes, param, message in CHATS:
                body = {"model": "answers", "messages": [USER], **changes}
                error = await refused(client, "/v1/chat/completions", body)
                assert error["param"] == param, error
                assert message in error["message"], error

    run(test)


def test_language_model_has_no_chat_and_no_labels() -> None:
    async def test() -> None:
        async with serving() as (client, _):
            error = await refused(client, "/v1/chat/completions", {"model": "letters", "messages": [USER]})
            assert "has no template; use /v1/completions" in error["message"]
            error = await refused(client, "/v1/classify", {"model": "letters", "input": "a"})
            assert "no classifier" in error["message"]

    run(test)


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b'{"model": "letters", "prompt": ', JSON, "no valid JSON"),
        (b"\xff\xfe", JSON, "body"),
        (b"", JSON, "body"),
        (b"[]", JSON, "body"),
        (
            b'{"model": "letters", "prompt": "a", "temperature": NaN}',
            JSON,
            "temperature: input should be a finite number",
        ),
        (b'{"model": "letters", "prompt": "a", "temperature": Infinity}', JSON, "finite number"),
        (b'{"model": "letters", "prompt": "a"}', {"content-type": "text/plain"}, "Content-Type: application/json"),
        (b"[" * 100_000, JSON, "body"),
    ],
)
def test_bodies_that_are_no_request(content: bytes, headers: dict[str, str], message: str) -> None:
    async def test() -> None:
        async with serving() as (client, _):
            answer = await client.post("/v1/completions", content=content, headers=headers)
            assert answer.status_code == 400, answer.text
            assert message in answer.json()["error"]["message"]

    run(test)


def test_inspection_that_is_refused() -> None:
    async def test() -> None:
        async with serving() as (client, _):
            for path, body, param in [
                ("/api/attention", {"prompt": "a" * 65}, "prompt"),
                ("/api/attention", {"prompt": "abc", "query": 3}, "query"),
                ("/api/next", {"prompt": "a", "count": 0}, "count"),
                ("/api/next", {"prompt": "a", "logit_bias": {"99": 1}}, "logit_bias"),
                ("/api/next", {"prompt": "a", "typical_p": 0}, "typical_p"),
            ]:
                assert (await refused(client, path, {"model": "default", **body}))["param"] == param

    run(test)


def guarded_client(access: Access, host: str = "127.0.0.1:8000") -> httpx.AsyncClient:
    """A client of a server behind its checks, whose engine does not run."""
    app = guarded(Engine(Models([loaded("/home/me/runs/letters")]), Limits()), access)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}")


def test_names_of_other_hosts_are_refused() -> None:
    async def test() -> None:
        for host, status in [
            ("127.0.0.1:8000", 200),
            ("localhost:1", 200),
            ("LOCALHOST", 200),
            ("[::1]:8000", 200),
            ("evil.example:8000", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost:8000.evil.example", 403),
            ("", 403),
        ]:
            async with guarded_client(Access()) as client:
                answer = await client.get("/v1/models", headers={"host": host})
                assert answer.status_code == status, host
        async with guarded_client(Access(hosts=None), "anything.example") as client:
            assert (await client.get("/v1/models")).status_code == 200
        async with guarded_client(Access(hosts=(*THIS_MACHINE, "gpt2.example"))) as client:
            assert (await client.get("/v1/models", headers={"host": "gpt2.example"})).status_code == 200

    run(test)


def test_pages_of_other_sites_are_refused_and_no_header_lets_them_read() -> None:
    async def test() -> None:
        async with guarded_client(Access()) as client:
            for origin, status in [
                ("http://127.0.0.1:8000", 200),
                ("http://evil.example", 403),
                ("http://127.0.0.1:9000", 403),
                ("null", 403),
            ]:
                answer = await client.get("/v1/models", headers={"origin": origin})
                assert answer.status_code == status
                assert not [name for name in answer.headers if name.startswith("access-control")]
            asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
            answer = await client.options("/v1/completions", headers=asked)
            assert answer.status_code == 403
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"

    run(test)


def test_key_is_needed_except_for_the_page_and_the_probe() -> None:
    async def test() -> None:
        async with guarded_client(Access(hosts=None, api_key="sécret")) as client:
            for headers, status in [
                ({}, 401),
                ({"authorization": "Bearer secret"}, 401),
                ({"authorization": "Basic sécret".encode()}, 401),
                ({"authorization": "Bearer sécret".encode()}, 200),
            ]:
                answer = await client.get("/v1/models", headers=headers)  # type: ignore[arg-type]  # of bytes, too
                assert answer.status_code == status, headers
            answer = await client.get("/metrics")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/health")).status_code == 503  # no engine runs here

    run(test)


def test_large_and_slow_bodies_are_refused_before_they_are_read() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 2**16
            yield b"a" * 2**16

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def test() -> None:
        async with guarded_client(Access(body_seconds=0.2)) as client:
            answer = await client.post("/v1/completions", content=b"a" * 10_000_000, headers=JSON)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
            answer = await client.post("/v1/completions", content=endless(), headers=JSON)
            assert answer.status_code == 413
            assert read < 2**21
            answer = await client.post("/v1/completions", content=slow(), headers=JSON)
            assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")

    run(test)


def test_unknown_paths_and_methods_have_the_shape_of_errors_and_no_answer_names_a_file() -> None:
    async def test() -> None:
        async with guarded_client(Access()) as client:
            texts = []
            for method, path, status in [
                ("GET", "/v1/nothing", 404),
                ("GET", "/../../etc/passwd", 404),
                ("GET", "/v1/completions", 405),
                ("GET", "/v1/models/other", 404),
                ("GET", "/docs", 404),
                ("GET", "/v1/models", 200),
                ("GET", "/api/models", 200),
                ("GET", "/openapi.json", 200),
                ("GET", "/metrics", 200),
            ]:
                answer = await client.request(method, path)
                assert answer.status_code == status, path
                if status >= 400:
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
                texts.append(answer.text)
            assert not re.search(r"/home|/usr|/tmp|\.py\b", "".join(texts))

    run(test)
