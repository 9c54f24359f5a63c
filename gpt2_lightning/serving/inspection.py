"""The endpoints of the page that look into a text."""

from __future__ import annotations

from gpt2_lightning.serving.completions.parameters import chat_ids, check_ids, sampling_of, text_ids
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.reading import TextReader
from gpt2_lightning.serving.schemas import AttentionAnswer, AttentionRequest, NextAnswer, NextRequest


class Inspection:
    """Answers requests about what a model reads.

    Args:
        engine: runs the models.
        readers: by the model's name.
    """

    def __init__(self, engine: Engine, readers: dict[str, TextReader]) -> None:
        self._engine, self._readers = engine, readers

    async def next_token(self, body: NextRequest) -> NextAnswer:
        """`POST /api/next`."""
        served = self._engine.models.language_model(body.model, "generate")
        if body.messages and served.template is None:
            raise RequestError(400, f"{served.name} was not trained on instructions: it has no template", "messages")
        ids = chat_ids(body.messages, served, body.room) if body.messages else text_ids(body.prompt, served)
        ids, sampling, reader = ids[-served.context :], sampling_of(body), self._readers[served.name]
        check_ids([int(token) for token in body.logit_bias or ()], served, "logit_bias")

        def answer() -> NextAnswer:
            tokens = reader.token_details(ids, body.alternatives) if body.tokens else []
            return reader.next_token(ids, sampling, body.count, tokens)

        return await self._engine.call(answer)

    async def attention(self, body: AttentionRequest) -> AttentionAnswer:
        """`POST /api/attention`."""
        served = self._engine.models.language_model(body.model, "generate")
        ids = text_ids(body.prompt, served)
        _check_context(ids, served)
        query = len(ids) - 1 if body.query is None else body.query
        if query >= len(ids):
            raise RequestError(400, f"query: {query} is out of range, the text has {len(ids)} tokens", "query")
        reader = self._readers[served.name]
        return await self._engine.call(lambda: reader.attention(ids, query))


def _check_context(ids: list[int], served: ServedModel) -> None:
    if len(ids) > served.context:
        raise RequestError(
            400,
            f"the text has {len(ids)} tokens, and the context of this model is {served.context} tokens; shorten it",
            "prompt",
            "context_length_exceeded",
        )
