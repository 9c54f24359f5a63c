"""Speed of the server: eight clients at once relative to a batch of eight, and the first token of a lone request.

    python -m benchmarks.serving

The model is GPT-2 124M with random weights in float32, on two threads; the clients are another process, over HTTP.
Eight prompts of 32 tokens with 128 new tokens each are generated in one batch by `Decoder`, and by eight clients that
stream, in alternation. The first token of a prompt of 512 tokens is compared with the forward pass over that prompt.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.results import report
from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.serving.operation.guard import Access
from gpt2_lightning.serving.operation.server import Address, Server, guarded
from gpt2_lightning.tokenizers import GPT2Tokenizer

_THREADS = 2
_CLIENTS, _PROMPT, _NEW = 8, 32, 128
_LONG_PROMPT = 512
_TURNS = 3


def main() -> None:
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    model = GPT2(GPT2Config()).eval()
    prompts = torch.randint(model.config.vocab_size, (_CLIENTS, _PROMPT))
    long_prompts = torch.randint(model.config.vocab_size, (_TURNS, _LONG_PROMPT))
    bound = Address("127.0.0.1", 0).bind()
    loaded = LoadedModel(model, GPT2Tokenizer(), {}, THIS_PROGRAM, "random")
    engine = Engine(Models([loaded]), Limits(rows=_CLIENTS))
    server = Server(guarded(engine, Access()), engine, grace=5)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    clients = multiprocessing.get_context("spawn").Process(target=_clients, args=(bound.getsockname()[1], theirs))
    clients.start()
    try:
        _offline(model, prompts[:, :8], 8)  # warm-up, as the next line
        _ask(ours, prompts[:, :8].tolist(), 8)
        turns = []
        for long_prompt in long_prompts:
            offline = _offline(model, prompts, _NEW)
            served, _ = _ask(ours, prompts.tolist(), _NEW)
            forward = _forward(model, long_prompt)
            _, first = _ask(ours, [long_prompt.tolist()], 4)
            turns.append((offline / served, first / forward, _CLIENTS * _NEW / served, first))
        speed, first, tokens, seconds = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"eight clients: {tokens:.1f} tokens/s; first token of {_LONG_PROMPT} after {1000 * seconds:.0f} ms")
    finally:
        ours.send(None)
        clients.join()
        server.should_exit = True
        thread.join()
    report(
        "serving",
        {
            "tokens/s of eight clients over those of a batch of eight": round(speed, 3),
            "time to the first token over that of a forward pass": round(first, 3),
        },
    )


def _offline(model: GPT2, prompts: torch.Tensor, count: int) -> float:
    begun = time.perf_counter()
    for _ in Decoder(model, list(prompts), Sampling(max_new_tokens=count, temperature=0)):
        pass
    return time.perf_counter() - begun


@torch.inference_mode()
def _forward(model: GPT2, prompt: torch.Tensor) -> float:
    begun = time.perf_counter()
    model.lm_head(model.features(prompt.unsqueeze(0))[:, -1])
    return time.perf_counter() - begun


def _ask(clients: Connection, prompts: list[list[int]], count: int) -> tuple[float, float]:
    """Seconds until all prompts have been answered, and until the first token."""
    clients.send((prompts, count))
    found: tuple[float, float] = clients.recv()
    return found


def _clients(port: int, orders: Connection) -> None:
    """Answer orders in another process: send prompts at once, and measure."""
    while (order := orders.recv()) is not None:
        orders.send(asyncio.run(_send_all(port, *order)))


async def _send_all(port: int, prompts: list[list[int]], count: int) -> tuple[float, float]:
    import httpx

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        await client.get("/health")
        begun = time.perf_counter()
        firsts = await asyncio.gather(*[_stream(client, prompt, count) for prompt in prompts])
        return time.perf_counter() - begun, min(firsts) - begun


async def _stream(client: Any, prompt: list[int], count: int) -> float:
    """Read a stream; return the time of its first token."""
    settings = {"temperature": 0, "stream": True, "ignore_end_of_text": True}
    body = {"model": "random", "prompt": prompt, "max_tokens": count, **settings}
    first = 0.0
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter()
                assert "error" not in json.loads(line[6:])
    return first


if __name__ == "__main__":
    main()
