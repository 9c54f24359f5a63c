"""Classification: the predictions of `predict`, and the attributions of `explain`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.inspection.attribution.methods import Output, attributions
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel
from tests.serving.served import LETTERS, random_model, run, serving

TASKS = {
    "single": LabelTask(("ham", "spam"), "single", "last", 12),
    "multi": LabelTask(("red", "green", "blue"), "multi", "mean", 12),
    "regression": LabelTask((), "regression", "last", 12),
}
TEXTS = ["you have won", "hello", "a", "see you at the old place"]


def classifier(task: LabelTask) -> LoadedModel:
    """A classifier of random weights."""
    model = random_model(LETTERS.vocab_size)
    score = torch.randn(task.n_scores, model.config.n_embd, generator=torch.Generator().manual_seed(5))
    return LoadedModel(model, LETTERS, {}, THIS_PROGRAM, "labels", task=task.to_plain(), score=score)


@pytest.mark.parametrize("kind", TASKS)
def test_labels_and_scores_are_those_of_predict(kind: str) -> None:
    loaded = classifier(TASKS[kind])
    expected = LanguageModel(loaded.model, LETTERS, loaded).predict(TEXTS)

    async def test() -> None:
        async with serving(loaded) as (client, _):
            asked = [{"model": "labels", "input": text} for text in TEXTS] + [{"model": "labels", "input": TEXTS}]
            answers = await asyncio.gather(*[client.post("/v1/classify", json=body) for body in asked])
            *single, together = [answer.json()["data"] for answer in answers]
            for found in ([entry for data in single for entry in data], together):
                for entry, prediction in zip(found, expected, strict=True):
                    label = prediction.label
                    if kind == "regression":
                        assert entry["label"] == pytest.approx(label, rel=1e-4)
                    else:
                        assert entry["label"] == (list(label) if isinstance(label, tuple) else label)
                    assert entry["scores"] == pytest.approx(prediction.probabilities, rel=1e-4)
            assert [entry["truncated"] for entry in together] == [False, False, False, True]
            assert [entry["index"] for entry in together] == [0, 1, 2, 3]
            assert answers[-1].json()["usage"]["prompt_tokens"] == 12 + 5 + 1 + 12

    run(test)


def test_reasons_are_the_attributions_of_explain() -> None:
    task = TASKS["multi"]
    loaded = classifier(task)
    probabilities = LanguageModel(loaded.model, LETTERS, loaded).predict(TEXTS[0]).probabilities
    label = max(probabilities, key=lambda name: probabilities[name])
    ids = torch.tensor(LETTERS.encode(TEXTS[0]).astype("int64"))
    expected = attributions(Output(loaded.classifier(), task.kind, task.labels.index(label), 32), ids)

    async def test() -> None:
        async with serving(loaded) as (client, _):
            body: dict[str, Any] = {"model": "labels", "input": TEXTS[0], "reasons": True}
            (entry,) = (await client.post("/v1/classify", json=body)).json()["data"]
            assert entry["explained"] == label
            assert "".join(reason["text"] for reason in entry["reasons"]) == TEXTS[0]
            for method, values in expected.items():
                found = [reason[method] for reason in entry["reasons"]]
                assert found == pytest.approx(values.tolist(), rel=1e-3, abs=1e-4)
            (short,) = (await client.post("/v1/classify", json=body | {"input": "a"})).json()["data"]
            assert short["reasons"] is None

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        ("/v1/completions", {"model": "labels", "prompt": "a"}, "model", "labels is a classifier"),
        ("/v1/chat/completions", {"model": "labels", "messages": [{"role": "user", "content": "a"}]}, "model", "chat"),
        ("/v1/classify", {"model": "labels", "input": ""}, "input", "no token"),
        ("/v1/classify", {"model": "labels", "input": []}, "input", "at least 1"),
        ("/v1/classify", {"model": "labels", "input": ["a"] * 300}, "input", "at most 256"),
        ("/v1/classify", {"model": "labels", "input": ["a", "b"], "reasons": True}, "reasons", "one is explained"),
        ("/api/next", {"model": "labels", "prompt": "a"}, "model", "labels is a classifier"),
    ],
)
def test_refused(path: str, body: dict[str, Any], param: str, message: str) -> None:
    async def test() -> None:
        async with serving(classifier(TASKS["single"])) as (client, _):
            answer = await client.post(path, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param)
            assert message in error["message"]

    run(test)
