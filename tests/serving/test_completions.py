"""Completions: OpenAI's shapes, and the tokens of `generate`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.errors import UserError
from gpt2_lightning.pretrained.devices import placed
from gpt2_lightning.serving.lane import Limits
from tests.serving.expected import PROMPTS, SETTINGS, expected
from tests.serving.served import LETTERS, events, instruct_model, language_model, loaded, run, serving


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language_model()


def test_eight_at_once_have_the_texts_that_generate_gives_each_alone(model: LanguageModel) -> None:
    async def test() -> None:
        async with serving() as (client, engine):
            requests = [
                client.post("/v1/completions", json={"model": "letters", "prompt": prompt, "max_tokens": 20} | settings)
                for prompt, settings in zip(PROMPTS, SETTINGS, strict=True)
            ]
            answers = [answer.json() for answer in await asyncio.gather(*requests)]
            texts = [answer["choices"][0]["text"] for answer in answers]
            assert texts == [expected(model, p, 20, **s) for p, s in zip(PROMPTS, SETTINGS, strict=True)]
            alone = await client.post(
                "/v1/completions", json={"model": "letters", "prompt": PROMPTS[2], "max_tokens": 20} | SETTINGS[2]
            )
            assert alone.json()["choices"][0]["text"] == texts[2]
            assert (engine.n_running, engine.n_waiting) == (0, 0)

    run(test)


def test_prompts_and_samples_have_the_seeds_of_generate(model: LanguageModel) -> None:
    body = {"model": "default", "prompt": ["one", "two two"], "n": 2, "seed": 9, "max_tokens": 12}

    async def test() -> None:
        async with serving() as (client, _):
            answer = (await client.post("/v1/completions", json=body)).json()
            found = [choice["text"] for choice in sorted(answer["choices"], key=lambda choice: choice["index"])]
            pairs = model.completions(["one", "two two"], num_samples=2, seed=9, max_new_tokens=12, temperature=1.0)
            assert found == [completion.text for completions in pairs for completion in completions]
            assert answer["usage"]["prompt_tokens"] == 10
            generated = sum(len(completion.pieces) for completions in pairs for completion in completions)
            assert answer["usage"]["completion_tokens"] == generated
            assert answer["usage"]["total_tokens"] == 10 + generated
            assert (answer["object"], answer["model"]) == ("text_completion", "letters")

    run(test)


def test_token_ids_are_prompts() -> None:
    ids = LETTERS.encode("one day").tolist()

    async def test() -> None:
        async with serving() as (client, _):
            found = []
            for prompt in ("one day", ids, [ids]):
                body = {"model": "default", "prompt": prompt, "seed": 1, "max_tokens": 9}
                found.append((await client.post("/v1/completions", json=body)).json()["choices"])
            assert found[0] == found[1] == found[2]

    run(test)


def test_stream_joins_to_the_answer() -> None:
    body = {"model": "default", "prompt": "one day", "seed": 1, "max_tokens": 30, "n": 2, "logprobs": 2}

    async def test() -> None:
        async with serving() as (client, _):
            whole = (await client.post("/v1/completions", json=body)).json()
            options = {"stream": True, "stream_options": {"include_usage": True}}
            stream = await client.post("/v1/completions", json=body | options)
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
            *chunks, last = events(stream.text)
            assert (last["choices"], last["usage"]) == ([], whole["usage"])
            assert {chunk["usage"] for chunk in chunks} == {None}
            assert len({chunk["id"] for chunk in chunks}) == 1
            for index in range(2):
                own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
                assert len(own) > 10
                assert "".join(choice["text"] for choice in own) == whole["choices"][index]["text"]
                assert own[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
                assert [c["finish_reason"] for c in own[:-1]] == [None] * (len(own) - 1)
                for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                    joined = [value for choice in own for value in choice["logprobs"][field]]
                    assert joined == whole["choices"][index]["logprobs"][field]

    run(test)


def test_log_probabilities_are_the_models_own(model: LanguageModel) -> None:
    body = {"model": "default", "prompt": "one", "max_tokens": 8, "logprobs": 3, "seed": 1, "echo": True}

    async def test() -> None:
        async with serving() as (client, _):
            choice = (await client.post("/v1/completions", json=body | {"temperature": 0.5})).json()["choices"][0]
            found = choice["logprobs"]
            assert "".join(found["tokens"]) == choice["text"]
            assert choice["text"].startswith("one")
            assert found["text_offset"] == list(range(len(found["tokens"])))
            logits = model.logits(choice["text"]).log_softmax(dim=-1)
            ids = LETTERS.encode(choice["text"]).tolist()
            assert found["token_logprobs"][0] is None
            assert found["top_logprobs"][0] is None
            for place, (token, value) in enumerate(zip(ids[1:], found["token_logprobs"][1:], strict=True)):
                assert value == pytest.approx(float(logits[place, token]), abs=1e-4)
                top = {LETTERS.decode([i]) for i in logits[place].topk(3).indices.tolist()} - {"<|endoftext|>"}
                assert set(found["top_logprobs"][place + 1]) >= {text for text in top if text}
            scored = (await client.post("/v1/completions", json=body | {"max_tokens": 0})).json()
            assert scored["choices"][0]["text"] == "one"
            assert scored["choices"][0]["logprobs"]["token_logprobs"] == found["token_logprobs"][:3]
            assert scored["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}

    run(test)


def test_stop_strings_end_the_text_and_are_no_part_of_it(model: LanguageModel) -> None:
    whole = expected(model, "one", 40, seed=3)
    stop = whole[10:12]
    kept = whole[: whole.index(stop)]

    async def test() -> None:
        async with serving() as (client, _):
            body = {"model": "default", "prompt": "one", "seed": 3, "max_tokens": 40, "stop": stop, "alternatives": 2}
            choice = (await client.post("/v1/completions", json=body)).json()["choices"][0]
            assert (choice["text"], choice["finish_reason"]) == (kept, "stop")
            assert "".join(token["text"] for token in choice["tokens"]) == kept
            assert {len(token["alternatives"]) for token in choice["tokens"]} == {2}
            stream = await client.post("/v1/completions", json=body | {"stream": True})
            chunks = [choice for chunk in events(stream.text) for choice in chunk["choices"]]
            assert "".join(chunk["text"] for chunk in chunks) == kept
            tokens = [token for chunk in chunks for token in chunk["tokens"]]
            assert tokens == choice["tokens"]

    run(test)


def test_rows_wait_for_each_other_and_a_request_of_many_texts_does_not_hold_up_the_next() -> None:
    async def test() -> None:
        async with serving(limits=Limits(rows=2)) as (client, _):
            ended: list[str] = []

            async def ask(name: str, **body: Any) -> list[str]:
                answer = await client.post("/v1/completions", json={"model": "default", "seed": 1, **body})
                ended.append(name)
                return [choice["text"] for choice in answer.json()["choices"]]

            many = asyncio.create_task(ask("many", prompt=["one"] * 12, max_tokens=40, ignore_end_of_text=True))
            await asyncio.sleep(0.05)
            await ask("few", prompt="one", max_tokens=4)
            texts = await many
            assert ended == ["few", "many"]
            assert len(texts) == 12

    run(test)


def test_waiting_requests_beyond_the_limit_are_told_to_come_back() -> None:
    async def test() -> None:
        async with serving(limits=Limits(rows=1, queue=3)) as (client, engine):
            body = {"model": "default", "prompt": "one", "max_tokens": 60, "ignore_end_of_text": True}
            answers = await asyncio.gather(*[client.post("/v1/completions", json=body) for _ in range(20)])
            refused = [answer for answer in answers if answer.status_code == 429]
            assert {answer.status_code for answer in answers} == {200, 429}
            assert 14 <= len(refused) <= 17
            assert int(refused[0].headers["retry-after"]) >= 1
            assert refused[0].json()["error"]["code"] == "queue_full"
            assert engine.n_waiting == 0

    run(test)


def test_time_limit_ends_a_request() -> None:
    async def test() -> None:
        async with serving(limits=Limits(seconds=0.01)) as (client, engine):
            body = {"model": "default", "prompt": "one", "max_tokens": 64 * 50, "slide": True}
            answer = await client.post("/v1/completions", json=body | {"ignore_end_of_text": True})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
            assert engine.n_running == 0

    run(test)


def test_texts_slide_past_the_context_where_asked(model: LanguageModel) -> None:
    async def test() -> None:
        async with serving() as (client, _):
            body = {"model": "default", "prompt": "one " * 20, "seed": 5, "max_tokens": 90}
            refused = (await client.post("/v1/completions", json=body)).json()["error"]
            assert refused["code"] == "context_length_exceeded"
            assert "80 tokens" in refused["message"]
            assert "64 tokens" in refused["message"]
            answer = await client.post("/v1/completions", json=body | {"slide": True})
            assert answer.json()["choices"][0]["text"] == expected(model, "one " * 20, 90, seed=5)

    run(test)


def test_a_failing_model_fails_its_requests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(loaded(), loaded("other")) as (client, engine):
            broken = engine.models["letters"].model
            real = broken.features

            def fail(*_: object, **__: object) -> torch.Tensor:
                raise RuntimeError("planted /secret/path")

            monkeypatch.setattr(broken, "features", fail)
            body = {"prompt": "one", "max_tokens": 5, "seed": 1}
            first, second = await asyncio.gather(
                *[client.post("/v1/completions", json=body | {"model": name}) for name in ("letters", "other")]
            )
            assert (first.status_code, second.status_code) == (500, 200)
            assert "secret" not in first.text
            monkeypatch.setattr(broken, "features", real)
            again = await client.post("/v1/completions", json=body | {"model": "letters"})
            assert again.json()["choices"] == second.json()["choices"]

    run(test)


def test_int8_weights_generate_as_in_python() -> None:
    found = loaded()
    placed(found.model, torch.device("cpu"), None, "int8")
    model = LanguageModel(found.model, found.tokenizer, found)

    async def test() -> None:
        async with serving(found) as (client, _):
            requests = [
                client.post("/v1/completions", json={"model": "letters", "prompt": prompt, "max_tokens": 20} | settings)
                for prompt, settings in zip(PROMPTS, SETTINGS, strict=True)
            ]
            texts = [answer.json()["choices"][0]["text"] for answer in await asyncio.gather(*requests)]
            assert texts == [expected(model, p, 20, **s) for p, s in zip(PROMPTS, SETTINGS, strict=True)]

    run(test)


def test_chat_answers_in_the_template() -> None:
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": [{"type": "text", "text": "who"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "me"},
        {"role": "user", "content": "why?"},
    ]
    prompt = "short\nQ:who?\nA:me!"

    async def test() -> None:
        async with serving(instruct_model()) as (client, engine):
            body = {"model": "answers", "messages": messages, "seed": 2, "max_completion_tokens": 20}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            end = engine.models["answers"].tokenizer.end_of_text
            ids = [*LETTERS.encode(prompt).tolist(), end, *LETTERS.encode("\nQ:why?\nA:").tolist()]
            same = {"model": "answers", "prompt": ids, "seed": 2, "max_tokens": 20, "stop": "!"}
            text = (await client.post("/v1/completions", json=same)).json()["choices"][0]["text"]
            assert answer["choices"][0]["message"] == {"role": "assistant", "content": text, "refusal": None}
            assert answer["object"] == "chat.completion"
            assert answer["usage"]["prompt_tokens"] == len(ids)
            options = {"stream": True, "logprobs": True, "top_logprobs": 2}
            stream = await client.post("/v1/chat/completions", json=body | options)
            first, *others = [chunk["choices"][0] for chunk in events(stream.text)]
            assert first["delta"]["role"] == "assistant"
            assert "".join(choice["delta"].get("content", "") for choice in others) == text
            entries = [entry for choice in others if choice["logprobs"] for entry in choice["logprobs"]["content"]]
            assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == text
            assert {len(entry["top_logprobs"]) for entry in entries} == {2}
            assert (others[-1]["delta"], others[-1]["finish_reason"] is None) == ({}, False)

    run(test)


def test_next_token_shows_what_the_settings_leave(model: LanguageModel) -> None:
    async def test() -> None:
        async with serving() as (client, _):
            body = {"model": "default", "prompt": "one day", "temperature": 0.7, "top_k": 5, "count": 8}
            answer = (await client.post("/api/next", json=body | {"alternatives": 3})).json()
            logits = model.logits("one day")
            own = logits[-1].softmax(dim=-1)
            assert [entry["probability"] for entry in answer["distribution"]] == pytest.approx(
                own.topk(8).values.tolist(), rel=1e-4
            )
            left = (logits[-1].topk(5).values / 0.7).softmax(dim=-1).tolist()
            assert [entry["chosen_with"] for entry in answer["distribution"]] == pytest.approx(
                [*left, 0, 0, 0], rel=1e-4
            )
            assert answer["kept"] == 5
            assert answer["rest"] == pytest.approx(1 - float(own.topk(8).values.sum()), abs=1e-5)
            values = logits[:-1].log_softmax(dim=-1).gather(1, torch.tensor(LETTERS.encode("one day"))[1:, None].long())
            assert [token["logprob"] for token in answer["tokens"]][1:] == pytest.approx(
                values[:, 0].tolist(), abs=1e-4
            )
            greedy = await client.post("/api/next", json={"model": "default", "prompt": "one day", "temperature": 0})
            assert greedy.json()["distribution"][0]["chosen_with"] == 1
            assert greedy.json()["kept"] == 1

    run(test)


def test_attention_of_each_token_equals_that_of_the_whole_text(model: LanguageModel) -> None:
    text = "one fine day"
    weights = model.attention(text)

    async def test() -> None:
        async with serving() as (client, _):
            for query in (11, 3, 0, 7, None):
                answer = (
                    await client.post("/api/attention", json={"model": "default", "prompt": text, "query": query})
                ).json()
                at = answer["query"]
                found = torch.tensor(answer["weights"])
                torch.testing.assert_close(found, weights[:, :, at, : at + 1], atol=6e-5, rtol=0)
            other = (await client.post("/api/attention", json={"model": "default", "prompt": "one fan"})).json()
            torch.testing.assert_close(
                torch.tensor(other["weights"]), model.attention("one fan")[:, :, -1], atol=6e-5, rtol=0
            )
            assert other["texts"] == list("one fan")

    run(test)


def test_models_are_described_without_paths() -> None:
    async def test() -> None:
        async with serving(loaded("/home/me/runs/tales"), instruct_model("/home/me/runs/tales")) as (client, _):
            listed = (await client.get("/v1/models")).json()
            assert [model["id"] for model in listed["data"]] == ["tales", "tales-2"]
            described = (await client.get("/api/models")).json()["models"]
            assert [model["kind"] for model in described] == ["language_model", "instruct"]
            assert (described[1]["template"], described[1]["stop"]) == ("short", ["!"])
            one = (await client.get("/v1/models/tales")).json()
            assert one == listed["data"][0]

    run(test)


def test_error_of_the_settings_is_the_message_of_generate() -> None:
    with pytest.raises(UserError, match="temperature"):
        language_model().generate("a", temperature=1e-9)

    async def test() -> None:
        async with serving() as (client, _):
            answer = await client.post("/v1/completions", json={"model": "default", "prompt": "a", "temperature": 1e-9})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "temperature"

    run(test)
