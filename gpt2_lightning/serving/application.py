"""The web application: its routes, and errors in OpenAI's shape."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gpt2_lightning import __version__
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.serving.classification import Classify
from gpt2_lightning.serving.completions.endpoints import Completions
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.inspection import Inspection
from gpt2_lightning.serving.operation.metrics import Metrics
from gpt2_lightning.serving.page.route import add_page
from gpt2_lightning.serving.reading import TextReader
from gpt2_lightning.serving.schemas import (
    AttentionAnswer,
    AttentionRequest,
    ChatRequest,
    ClassifyAnswer,
    ClassifyRequest,
    CompletionRequest,
    ModelsAnswer,
    NextAnswer,
    NextRequest,
)

_UNION_MEMBER = re.compile(r"\[|^(str|int)$")
"""Names of a union's types in the places that pydantic reports."""
_LOG = logging.getLogger(__name__)


def create_app(engine: Engine, metrics: Metrics | None = None) -> FastAPI:
    """Create the application; the engine runs as long as it does.

    Args:
        engine: runs the models.
        metrics: metrics of the server that the application is part of.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            engine.close()

    app = FastAPI(title="GPT-2 Lightning", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    metrics = metrics or Metrics(engine)
    readers = {name: TextReader(engine.models.by_name[name]) for name in engine.lanes}
    _add_openai_routes(app, engine, Completions(engine, readers, metrics.first_token.observe), Classify(engine))
    _add_page_routes(app, engine, Inspection(engine, readers))
    _add_operation_routes(app, engine, metrics)
    add_page(app)
    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(UserError, _answer_user_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    return app


def _add_openai_routes(app: FastAPI, engine: Engine, completions: Completions, classifiers: Classify) -> None:
    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> dict[str, Any]:
        """The models of this server."""
        return {"object": "list", "data": [_model_object(name) for name in engine.models.by_name]}

    @app.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        return _model_object(engine.models[name].name)

    @app.post("/v1/completions", tags=["OpenAI"])
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue texts."""
        return await completions.complete(body, request)

    @app.post("/v1/chat/completions", tags=["OpenAI"])
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation, by a model that was trained on instructions."""
        return await completions.chat(body, request)

    @app.post("/v1/classify", tags=["Classifiers"])
    async def classify(body: ClassifyRequest) -> ClassifyAnswer:
        """Label texts, by a classifier; with the tokens that mattered, where asked."""
        return await classifiers.classify(body)


def _add_page_routes(app: FastAPI, engine: Engine, inspection: Inspection) -> None:
    @app.get("/api/models", tags=["Page"])
    async def models() -> ModelsAnswer:
        """The models of this server, with their properties."""
        infos = [served.info for served in engine.models.by_name.values()]
        return ModelsAnswer(models=infos, version=__version__, most_tokens=engine.limits.tokens)

    @app.post("/api/next", tags=["Page"])
    async def next_token(body: NextRequest) -> NextAnswer:
        """The distribution of the next token, as the model gives it and as the settings leave it."""
        return await inspection.next_token(body)

    @app.post("/api/attention", tags=["Page"])
    async def attention(body: AttentionRequest) -> AttentionAnswer:
        """The attention of one token, by layer and head."""
        return await inspection.attention(body)


def _add_operation_routes(app: FastAPI, engine: Engine, metrics: Metrics) -> None:
    @app.get("/health", tags=["Operation"])
    async def health() -> Response:
        """200 while models can answer, else 503."""
        status = "ok" if engine.is_alive else "failed"
        return JSONResponse({"status": status}, 200 if engine.is_alive else 503)

    @app.get("/metrics", tags=["Operation"])
    async def metrics_text() -> Response:
        """Metrics in Prometheus's format."""
        return Response(metrics.text(), media_type=metrics.content_type)


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gpt2-lightning"}


async def _answer_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error.body, error.status, error.headers)


async def _answer_user_error(request: Request, error: Exception) -> Response:
    return await _answer_request_error(request, RequestError(400, str(error)))


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    """400, where FastAPI answers 422: clients of OpenAI's API expect it."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    # Of a union, the type that fits and has another fault says more than the others.
    first = next((each for each in errors if not each["type"].endswith("_type")), errors[0])
    if first["type"] == "json_invalid":
        return await _answer_request_error(
            request, RequestError(400, f"the body is no valid JSON: {first['ctx']['error']}", code="invalid_json")
        )
    where = [str(part) for part in first["loc"][1:] if not _UNION_MEMBER.search(str(part))]
    param = where[0] if where else None
    if first["type"] == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {'.'.join(where)}"
    elif not where:
        message = "the body must be a JSON object, with the header Content-Type: application/json"
    else:
        same = [each["msg"] for each in errors if first["type"].endswith("_type") and each["loc"][1] == first["loc"][1]]
        fault = " or ".join(dict.fromkeys(msg.removeprefix("Input should be ") for msg in same))
        given = "" if first["type"] == "missing" else f", not {shortened(first['input'])}"
        message = f"{'.'.join(where)}: {f'input should be {fault}' if fault else _uncapitalized(first['msg'])}{given}"
    return await _answer_request_error(request, RequestError(400, message, param))


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"there is no {request.method} {request.url.path[:200]}" if error.status_code in (404, 405) else None
    answer = RequestError(error.status_code, message or str(error.detail))
    return JSONResponse(answer.body, error.status_code, error.headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _answer_request_error(request, RequestError(500, f"the server failed: {type(error).__name__}"))
