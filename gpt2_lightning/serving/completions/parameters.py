"""From the fields of requests to the settings of a generation."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.api.chat import Chat
from gpt2_lightning.data.instruction.encoding import encode
from gpt2_lightning.data.tables.instructions import Message
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.schemas import ChatMessage, CompletionRequest, Filters, GenerationRequest

_OWN_NAMES = {"max_new_tokens": "max_tokens"}
_LEAST_TOP_P = 1e-9
"""In place of 0, which OpenAI's API allows: the likeliest token alone."""
_SEEDS = 2**63


def sampling_of(request: Filters, **others: Any) -> Sampling:
    """The settings of a request. What it leaves out has OpenAI's defaults.

    Args:
        request: the request.
        **others: fields of `Sampling` that do not have the name and the meaning of a field of the request.

    Raises:
        RequestError: 400, if they do not fit each other.
    """
    names = ["top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"]
    if isinstance(request, GenerationRequest):
        names += ["presence_penalty", "frequency_penalty", "repetition_penalty", "no_repeat_ngram_size"]
    values = {name: value for name in names if (value := getattr(request, name)) is not None}
    if request.top_p is not None:
        values["top_p"] = request.top_p or _LEAST_TOP_P
    if request.logit_bias:
        values["logit_bias"] = {int(token): bias for token, bias in request.logit_bias.items()}
    try:
        return Sampling(temperature=1.0 if request.temperature is None else request.temperature, **values, **others)
    except ValueError as error:
        name = str(error).partition(":")[0]
        raise RequestError(400, str(error), _OWN_NAMES.get(name, name)) from None


def check_ids(ids: Sequence[int], served: ServedModel, param: str) -> None:
    """Refuse ids that the vocabulary lacks.

    Raises:
        RequestError: 400.
    """
    size = served.model.config.vocab_size
    if unknown := [token for token in ids if not 0 <= token < size]:
        raise RequestError(400, f"{param}: the id {unknown[0]} is out of range, 0 to {size - 1} is allowed", param)


def seed_of(request: GenerationRequest) -> int:
    """The seed of a request, which may be negative in OpenAI's API, or a new one."""
    return secrets.randbelow(_SEEDS) if request.seed is None else request.seed % _SEEDS


def text_ids(text: str | list[int], served: ServedModel, param: str = "prompt") -> list[int]:
    """Ids of a text, one or more; those of an empty one are the start of a text.

    Raises:
        RequestError: 400, if it cannot be encoded.
    """
    if isinstance(text, str):
        try:
            ids: list[int] = prompt_ids(text, served.tokenizer).tolist()
        except UserError as error:
            raise RequestError(400, str(error), param) from None
        finally:
            served.tokenizer.take_note()
        return ids
    if not text:
        raise RequestError(400, f"{param}: there are no token ids; give one or more, or a text", param)
    check_ids(text, served, param)
    return text


def prompts_of(request: CompletionRequest, served: ServedModel) -> list[list[int]]:
    """Ids of each prompt of a request.

    Raises:
        RequestError: 400, if there is none, or one cannot be encoded.
    """
    prompt = request.prompt
    if isinstance(prompt, str):
        return [text_ids(prompt, served)]
    if not prompt:
        raise RequestError(400, "prompt: the list is empty, one prompt or more is needed", "prompt")
    if isinstance(prompt[0], int):
        return [text_ids([token for token in prompt if isinstance(token, int)], served)]
    return [text_ids(each, served) for each in prompt if not isinstance(each, int)]


def chat_ids(messages: Sequence[ChatMessage], served: ServedModel, room: int | None = None) -> list[int]:
    """Ids of a conversation in the template of a model. A template for single questions has the last one alone.

    Args:
        messages: a system message or none, then questions and answers in turns, a question last.
        served: the model, which has a template.
        room: tokens of the answer for which the oldest turns are dropped; None to keep all.

    Raises:
        RequestError: 400, if the template or the tokenizer cannot express it.
    """
    assert served.template is not None
    plain = [(message.role, _content(message)) for message in messages]
    system = plain.pop(0)[1] if plain[0][0] in ("system", "developer") else None
    roles = [role for role, _ in plain]
    if not plain or roles != [("user", "assistant")[i % 2] for i in range(len(roles))] or roles[-1] != "user":
        raise RequestError(
            400,
            f"messages: the roles are {', '.join(role for role, _ in [(m.role, 0) for m in messages])[:200]}; user and "
            "assistant in turns are needed, user first and last, after one system message or none",
            "messages",
        )
    turns = [Message("user" if role == "user" else "assistant", content) for role, content in plain]
    try:
        chat = Chat(served.template, served.tokenizer, served.context, lambda note: None, system)
        chat.turns = turns[:-1]
        if room is not None or served.template.between is None:
            return chat.encode(turns[-1].content, 1 if room is None else room).tolist()
        if not turns[-1].content.strip():
            raise UserError("the question is empty")
        opening = [] if system is None else [Message("system", system)]
        return encode(served.template.render([*opening, *turns]), served.tokenizer).ids.tolist()
    except UserError as error:
        raise RequestError(400, f"messages: {error}", "messages") from None
    finally:
        served.tokenizer.take_note()


def _content(message: ChatMessage) -> str:
    content = message.content
    return content if isinstance(content, str) else "".join(part.text for part in content)


def room_for(
    prompts: Sequence[Sequence[int]], wanted: int | None, default: int, slide: bool, served: ServedModel, limits: Limits
) -> int:
    """Tokens that each text may have.

    Args:
        prompts: ids of each prompt.
        wanted: `max_tokens` of the request.
        default: the same where the request has none, if the context has room for it.
        slide: whether texts may outgrow the context.
        served: the model.
        limits: of the server.

    Raises:
        RequestError: 400, if a prompt, or a text with its prompt, exceeds the context or a limit.
    """
    longest, context = max(map(len, prompts)), served.context
    if wanted is not None and wanted > limits.tokens:
        raise RequestError(
            400, f"max_tokens: {wanted} is out of range, this server allows {limits.tokens}", "max_tokens"
        )
    if slide:
        return min(default, limits.tokens) if wanted is None else wanted
    remedy = "shorten it, or set slide=true to read it through a sliding window"
    if longest > context:
        raise RequestError(
            400,
            f"the prompt has {longest} tokens, and the context of this model is {context} tokens; {remedy}",
            "prompt",
            "context_length_exceeded",
        )
    room = context - longest + 1  # the last token is not read
    if wanted is not None and wanted > room:
        raise RequestError(
            400,
            f"the context of this model is {context} tokens, and {longest + wanted - 1} are asked for: {longest} of "
            f"the prompt and {wanted} to generate, of which the last one is not read; lower max_tokens to {room} or "
            "less, or set slide=true",
            "max_tokens",
            "context_length_exceeded",
        )
    return min(default, room, limits.tokens) if wanted is None else wanted


def as_tensors(prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Ids of each prompt as tensors, (T,)."""
    return [torch.tensor(ids, dtype=torch.int64) for ids in prompts]
