"""Servers in this process, with small random models."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import httpx
import torch
from fastapi import FastAPI

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.data.instruction.templates import KIND, Template
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel
from gpt2_lightning.serving.application import create_app
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.tokenizers import CharTokenizer, Tokenizer

LETTERS = CharTokenizer("abcdefghijklmnopqrstuvwxyz .:?!\nABCé€", end_of_text=True)
TEMPLATE = Template(name="short", question="Q:{instruction}\nA:", between="\n", system="{system}\n", answer_end="!")


def random_model(vocab_size: int, context: int = 64) -> GPT2:
    """Weights so large that the next token depends on all that was read."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=vocab_size, block_size=context, n_layer=2, n_head=3, n_embd=24)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model


def loaded(name: str = "letters", tokenizer: Tokenizer = LETTERS, task: dict[str, Any] | None = None) -> LoadedModel:
    """A language model, which knows nothing."""
    model = random_model(tokenizer.vocab_size)
    return LoadedModel(model, tokenizer, {}, THIS_PROGRAM, name, task=task or {})


def instruct_model(name: str = "answers") -> LoadedModel:
    """A model with a template."""
    return loaded(name, task={"kind": KIND, "template": TEMPLATE.to_plain()})


def language_model() -> LanguageModel:
    """The network of `loaded`, for Python."""
    found = loaded()
    return LanguageModel(found.model, found.tokenizer, found)


@contextlib.asynccontextmanager
async def serving(
    *models: LoadedModel, limits: Limits | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
    """A client of a server with these models, and its engine."""
    engine = Engine(Models(models or [loaded()]), limits or Limits())
    app: FastAPI = create_app(engine)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60) as client,
    ):
        yield client, engine


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test, for a minute at most."""

    async def limited() -> None:
        with anyio.fail_after(60):
            await test()

    anyio.run(limited)


def events(text: str) -> Iterator[dict[str, Any]]:
    """The events of a stream, which must end in [DONE]."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return map(json.loads, data)
