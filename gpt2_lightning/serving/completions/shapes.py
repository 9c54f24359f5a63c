"""OpenAI's shapes of answers: completions and chat completions, whole and as chunks of a stream."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gpt2_lightning.serving.completions.texts import Delta, FinishReason
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.schemas import ChatRequest, CompletionRequest, GenerationRequest, TokenDetail

Json = dict[str, Any]


class Shape(ABC):
    """Builds the answer to one request.

    Args:
        request: the request.
        served: the model.
    """

    prefix: str
    whole: str
    """`object` of an answer."""
    chunk: str
    """`object` of a chunk of a stream."""

    def __init__(self, request: GenerationRequest, served: ServedModel) -> None:
        self.request, self.served = request, served
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"
        self.created = int(time.time())

    def answer(self, choices: Sequence[Json], usage: Json) -> Json:
        """The whole answer."""
        return {**self._head(self.whole), "choices": list(choices), "usage": usage}

    def chunks(self, index: int, delta: Delta) -> list[Json]:
        """The chunks of a stream for what is added to a choice."""
        first, *others = self._chunk_choices(index, delta)
        return [self._chunk([choice]) for choice in (self._extended(first, delta.tokens), *others)]

    def opening(self, count: int) -> list[Json]:
        """Chunks before the first ones of `count` choices."""
        return []

    def usage_chunk(self, usage: Json) -> Json:
        """The last chunk of a stream, if usage is asked for."""
        return {**self._head(self.chunk), "choices": [], "usage": usage}

    def choice(self, index: int, deltas: Sequence[Delta]) -> Json:
        """A whole choice."""
        tokens = [token for delta in deltas for token in delta.tokens]
        found = self._choice(index, "".join(delta.text for delta in deltas), tokens, deltas[-1].finish_reason)
        return self._extended(found, tokens)

    def _chunk(self, choices: list[Json]) -> Json:
        options = self.request.stream_options
        usage = {"usage": None} if options and options.include_usage else {}
        return {**self._head(self.chunk), "choices": choices, **usage}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.served.name}

    def _extended(self, choice: Json, tokens: Sequence[TokenDetail]) -> Json:
        """Add the extension `tokens`, if it is asked for."""
        count = self.request.alternatives
        if count is None:
            return choice
        kept = [token.model_copy(update={"alternatives": token.alternatives[:count]}) for token in tokens]
        return {**choice, "tokens": [token.model_dump() for token in kept]}

    @abstractmethod
    def _choice(self, index: int, text: str, tokens: Sequence[TokenDetail], reason: FinishReason | None) -> Json: ...

    @abstractmethod
    def _chunk_choices(self, index: int, delta: Delta) -> list[Json]: ...


class CompletionShape(Shape):
    """Answers of `/v1/completions`."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"
    request: CompletionRequest

    def __init__(self, request: CompletionRequest, served: ServedModel) -> None:
        super().__init__(request, served)
        self._characters: Counter[int] = Counter()

    def _chunk_choices(self, index: int, delta: Delta) -> list[Json]:
        return [self._choice(index, delta.text, delta.tokens, delta.finish_reason)]

    def _choice(self, index: int, text: str, tokens: Sequence[TokenDetail], reason: FinishReason | None) -> Json:
        logprobs = None if self.request.logprobs is None else self._logprobs(index, tokens, self.request.logprobs)
        return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, index: int, tokens: Sequence[TokenDetail], count: int) -> Json:
        offsets = []
        for token in tokens:
            offsets.append(self._characters[index])
            content = self.served.tokenizer.token_bytes(token.id)
            self._characters[index] += sum(byte & 0xC0 != 0x80 for byte in content)  # bytes that begin a character
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [self._top(token, count) for token in tokens],
            "text_offset": offsets,
        }

    @staticmethod
    def _top(token: TokenDetail, count: int) -> dict[str, float] | None:
        """The likeliest tokens and the chosen one, by text; None for the first token of a text."""
        if token.logprob is None:
            return None
        return {each.text: each.logprob for each in token.alternatives[:count]} | {token.text: token.logprob}


class ChatShape(Shape):
    """Answers of `/v1/chat/completions`."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"
    request: ChatRequest

    def opening(self, count: int) -> list[Json]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        choices = [{"index": i, "delta": delta, "logprobs": None, "finish_reason": None} for i in range(count)]
        return [self._chunk([choice]) for choice in choices]

    def _chunk_choices(self, index: int, delta: Delta) -> list[Json]:
        found: list[Json] = []
        if delta.text or delta.tokens:
            logprobs = self._logprobs(delta.tokens)
            content = {"content": delta.text}
            found.append({"index": index, "delta": content, "logprobs": logprobs, "finish_reason": None})
        if delta.finish_reason:
            found.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": delta.finish_reason})
        return found

    def _choice(self, index: int, text: str, tokens: Sequence[TokenDetail], reason: FinishReason | None) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": self._logprobs(tokens), "finish_reason": reason}

    def _logprobs(self, tokens: Sequence[TokenDetail]) -> Json | None:
        if not self.request.logprobs:
            return None
        count = self.request.top_logprobs or 0
        content = [
            {
                **self._entry(token.id, token.logprob),
                "top_logprobs": [self._entry(each.id, each.logprob) for each in token.alternatives[:count]],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float | None) -> Json:
        content = self.served.tokenizer.token_bytes(token)
        return {"token": self.served.token_text(token), "logprob": logprob, "bytes": list(content)}
