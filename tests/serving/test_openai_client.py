"""The `openai` client, unchanged, with a server over the network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.operation.guard import Access
from tests.serving.expected import PROMPTS, SETTINGS, expected
from tests.serving.running import running
from tests.serving.served import instruct_model, language_model, loaded

openai = pytest.importorskip("openai")
KEY = "a-key"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        running(loaded(), instruct_model(), limits=Limits(queue=4), access=Access(api_key=KEY)) as (port, _),
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0, timeout=60) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language_model()


def complete(client: Any, prompt: str, settings: dict[str, Any]) -> str:
    own = ("top_k", "repetition_penalty", "no_repeat_ngram_size", "min_p")
    extra = {name: value for name, value in settings.items() if name in own}
    given = {name: value for name, value in settings.items() if name not in own}
    answer = client.completions.create(model="letters", prompt=prompt, max_tokens=20, extra_body=extra, **given)
    text: str = answer.choices[0].text
    return text


def test_completion_has_the_tokens_of_generate_alone_and_with_seven_others(client: Any, model: LanguageModel) -> None:
    texts = [expected(model, prompt, 20, **settings) for prompt, settings in zip(PROMPTS, SETTINGS, strict=True)]
    assert complete(client, PROMPTS[2], SETTINGS[2]) == texts[2]
    with ThreadPoolExecutor(8) as pool:
        retrying = client.with_options(max_retries=5)
        found = list(pool.map(lambda each: complete(retrying, *each), zip(PROMPTS, SETTINGS, strict=True)))
    assert found == texts


def test_stream_of_a_completion(client: Any, model: LanguageModel) -> None:
    stream = client.completions.create(
        model="letters", prompt="one", max_tokens=30, seed=4, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected(model, "one", 30, seed=4)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert last.usage.prompt_tokens == 3


def test_log_probabilities(client: Any) -> None:
    choice = client.completions.create(model="letters", prompt="one", max_tokens=5, seed=4, logprobs=2).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(value <= 0 for value in choice.logprobs.token_logprobs)
    messages = [{"role": "user", "content": "who?"}]
    chat = client.chat.completions.create(
        model="answers", messages=messages, max_tokens=5, seed=4, logprobs=True, top_logprobs=3
    )
    entries = chat.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == chat.choices[0].message.content
    assert {len(entry.top_logprobs) for entry in entries} == {3}


def test_chat_and_its_stream(client: Any) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "who?"}]
    whole = client.chat.completions.create(model="answers", messages=messages, seed=1, max_tokens=25, n=2)
    assert [choice.message.role for choice in whole.choices] == ["assistant"] * 2
    stream = client.chat.completions.create(model="answers", messages=messages, seed=1, max_tokens=25, n=2, stream=True)
    texts = ["", ""]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["letters", "answers"]
    assert client.models.retrieve("answers").id == "answers"


def test_errors_are_those_of_the_client(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="the prompt has 70 tokens") as caught:
        client.completions.create(model="letters", prompt="a" * 70)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o'"):
        client.completions.create(model="gpt-4o", prompt="a")
    with pytest.raises(openai.AuthenticationError, match="a key is needed"):
        client.with_options(api_key="another").models.list()
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument"):
        client.completions.create(model="letters", prompt="a", extra_body={"temprature": 1})


def test_many_at_once_are_refused_with_the_error_that_the_client_retries(client: Any) -> None:
    def ask(_: int) -> str:
        try:
            client.completions.create(
                model="letters", prompt="one", max_tokens=400, extra_body={"slide": True, "ignore_end_of_text": True}
            )
        except openai.RateLimitError as error:
            return f"again in {error.response.headers['retry-after']}"
        return "answered"

    with ThreadPoolExecutor(40) as pool:
        outcomes = list(pool.map(ask, range(40)))
    refused = [outcome for outcome in outcomes if outcome != "answered"]
    assert 0 < len(refused) < 40
    assert all(1 <= int(outcome.removeprefix("again in ")) <= 60 for outcome in refused)
