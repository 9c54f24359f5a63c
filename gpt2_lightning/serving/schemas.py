"""Requests and answers of the API: OpenAI's, with the extensions that the page uses.

Fields that OpenAI's API lacks are marked "extension"; its Python client passes them in `extra_body`. Unknown fields
are refused, so that a misspelt setting has no silent effect. The answers to completions are dictionaries in OpenAI's
shapes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MOST_CHOICES = 128
MOST_ALTERNATIVES = 20
MOST_STOP_STRINGS = 16

Id = Annotated[int, Field(ge=0, strict=True)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[Finite, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]


class Request(BaseModel):
    """A request's body. Values are not converted: "1" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Filters(Request):
    """Settings that form the distribution of the next token; see `generation.Sampling`."""

    temperature: Annotated[Finite, Field(ge=0)] | None = None
    """Divides the logits; 1 by default."""
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Extension, as the filters below."""
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    epsilon_cutoff: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    eta_cutoff: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    logit_bias: dict[Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Finite] | None = None
    """By token id."""


class StreamOptions(Request):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Without effect: streams are not padded."""


class GenerationRequest(Filters):
    """What completions and chat completions have in common."""

    model: str
    """One of `/v1/models`; "default" is the first."""
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    """Texts for each prompt; 1 by default."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOP_STRINGS)] | None = None
    seed: Seed | None = None
    """The same seed gives the same text; drawn by the server where it is absent."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[Finite, Field(gt=0)] | None = None
    """Extension, as the settings below."""
    no_repeat_ngram_size: Annotated[int, Field(ge=1)] | None = None
    ignore_end_of_text: bool = False
    """Whether texts continue after an end of text."""
    slide: bool = False
    """Whether texts beyond the context are read through a sliding window, as by `generate`; otherwise an error."""
    alternatives: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    """Adds `tokens` to every choice (see `TokenDetail`), with this number of the likeliest tokens at each position."""
    # Accepted without effect, since clients send them.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CompletionRequest(GenerationRequest):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str] | list[Id] | list[list[Id]]
    """Texts or token ids."""
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens to add, at most; 16 by default, as in OpenAI's API. 0 with `echo` only reads the prompt."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    """Also report the log-probability of each token and of this many of the likeliest."""
    echo: bool | None = None
    """Whether the prompt is part of the text."""
    best_of: Literal[1] | None = None
    suffix: None = None


class TextPart(Request):
    type: Literal["text"]
    text: str


class ChatMessage(Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None


class ResponseFormat(Request):
    type: Literal["text"]


class ChatRequest(GenerationRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the answer, at most; by default as many as the context has room for."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    # Accepted where they ask for nothing.
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: str | None = None


class Alternative(BaseModel):
    """A token that might have stood in a place."""

    id: int
    text: str
    """As `TokenDetail.text`."""
    logprob: float


class TokenDetail(BaseModel):
    """A token of a text, an entry of `choices[i].tokens` in answers and in the chunks of a stream.

    The entries of all chunks of a choice are the tokens of its text: those of a stop string and an end of text are left
    out. A chunk with text has the tokens that complete it, of which there may be several.
    """

    id: int
    text: str
    """Its characters; bytes that are no whole characters are written as <0xE2>."""
    logprob: float | None
    """Natural logarithm of the model's own probability, before temperature and filters; null for the first token of a
    text, which nothing predicts."""
    alternatives: list[Alternative] = []
    """The likeliest tokens in its place, likeliest first; they need not include it."""


class NextRequest(Filters):
    """The body of `POST /api/next`: which token may follow a text, and how likely the text is."""

    model: str
    prompt: str | list[Id]
    """A text or token ids; of longer ones than the context, the end is read."""
    messages: list[ChatMessage] | None = None
    """In place of a prompt (""), a conversation that the model's template renders."""
    room: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the answer, to make room for which the oldest turns of the conversation are dropped."""
    count: Annotated[int, Field(ge=1, le=1000)] = 50
    """Tokens of the distribution."""
    tokens: bool = True
    """Whether `tokens` is answered."""
    alternatives: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] = 0
    """Alternatives of each token of the text."""


class NextToken(BaseModel):
    """A token that may follow."""

    id: int
    text: str
    probability: float
    """The model's own."""
    chosen_with: float
    """Probability with which the settings choose it: after bias, temperature and filters; 0 if they exclude it. At
    temperature 0 the likeliest has 1."""


class NextAnswer(BaseModel):
    """The answer of `POST /api/next`."""

    model: str
    tokens: list[TokenDetail]
    """Those of the text as the model reads it: of an empty prompt the one from which texts start, of a conversation
    those of the template. Completions of their ids are completions of the text."""
    distribution: list[NextToken]
    """Likeliest first."""
    rest: float
    """The probability of the tokens that are not listed, by the model."""
    kept: int
    """Number of tokens that the filters leave, in the whole vocabulary."""
    entropy: float
    """Of the model's own distribution, in nats."""


class AttentionRequest(Request):
    """The body of `POST /api/attention`."""

    model: str
    prompt: str | list[Id]
    """At most `context` tokens."""
    query: Annotated[int, Field(ge=0)] | None = None
    """Index of the token whose attention is asked for; the last by default."""


class AttentionAnswer(BaseModel):
    """The answer of `POST /api/attention`."""

    model: str
    ids: list[int]
    texts: list[str]
    """The tokens, as `TokenDetail.text`."""
    query: int
    weights: list[list[list[float]]]
    """[layer][head][key] for keys 0 to query, rounded to four digits; each sums to 1."""


class ClassifyRequest(Request):
    """The body of `POST /v1/classify`."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    reasons: bool = False
    """Whether the tokens that mattered are answered: several forward passes for a text, and one text at a time."""
    user: str | None = None


class Reason(BaseModel):
    """A token of a classified text."""

    text: str
    occlusion: float
    """Drop of the label's log-odds (of the number, in regression) when the token is removed."""
    gradient_x_input: float
    rollout: float
    """Share of the token in what the head reads, as far as attention mixes tokens."""


class Classification(BaseModel):
    """The label of a text."""

    index: int
    label: str | list[str] | float
    """The class, the classes that apply, or a number."""
    scores: dict[str, float]
    """Probability of each class; empty in regression."""
    truncated: bool
    """Whether the classifier read a part of the text alone."""
    explained: str | None = None
    """The label that `reasons` are for."""
    reasons: list[Reason] | None = None
    """Of each token that was read; null if not asked for, or if the text has a single token."""


class ClassifyAnswer(BaseModel):
    """The answer of `POST /v1/classify`."""

    object: Literal["list"] = "list"
    model: str
    data: list[Classification]
    usage: dict[str, int]


class ModelInfo(BaseModel):
    """A model of `GET /api/models`."""

    id: str
    kind: Literal["language_model", "instruct", "classifier"]
    parameters: int
    n_layer: int
    n_head: int
    n_embd: int
    context: int
    """Tokens."""
    vocabulary: int
    step: int | None
    """Optimizer step of the checkpoint, if known."""
    template: str | None
    """Name of an instruct model's template."""
    has_system: bool
    """Whether the template has a place for a system message."""
    several_turns: bool
    """Whether the template has conversations of more than one question."""
    stop: list[str]
    """Strings that end an answer in the template, for answers that are continued from token ids."""
    labels: list[str]
    """Of a classifier."""
    label_kind: str | None
    """`single`, `multi` or `regression`, of a classifier."""


class ModelsAnswer(BaseModel):
    """The answer of `GET /api/models`: the models of the command line, in its order."""

    models: list[ModelInfo]
    version: str
    """Of this package."""
    most_tokens: int
    """Largest `max_tokens` of a request."""
