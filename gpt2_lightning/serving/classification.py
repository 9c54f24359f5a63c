"""The endpoint of classifiers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.predictions import predict, predictions_of
from gpt2_lightning.inspection.attribution.methods import Output, gradient_times_input, rollout_attribution
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.schemas import Classification, ClassifyAnswer, ClassifyRequest, Reason

_BATCH = 32
_VERSIONS = 8
"""Versions of an explained text in a forward pass, between which other requests are served."""
_MOST_EXPLAINED = 512
"""Tokens of a text whose reasons are computed, with a version of the text for each."""


@dataclass(eq=False)
class _Asked:
    """The texts of a request, and what the classifier makes of them."""

    texts: list[str]
    outputs: NDArray[np.float32] | None = None


class Classify:
    """Answers requests to classify. Texts of several requests share forward passes.

    Args:
        engine: runs the models.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[str, deque[_Asked]] = {name: deque() for name in engine.models.by_name}

    async def classify(self, body: ClassifyRequest) -> ClassifyAnswer:
        """`POST /v1/classify`."""
        served = self._engine.models[body.model]
        if served.labels is None:
            raise RequestError(
                400, f"{served.name} is a language model and no classifier; use /v1/completions", "model", "wrong_model"
            )
        texts = [body.input] if isinstance(body.input, str) else body.input
        encoded = _encode(texts, served, served.labels)
        longest = int(encoded.lengths.max())
        if body.reasons and len(texts) > 1:
            raise RequestError(400, f"reasons: {len(texts)} texts were given, one is explained at a time", "reasons")
        if body.reasons and longest > _MOST_EXPLAINED:
            raise RequestError(
                400, f"reasons: the text has {longest} tokens, {_MOST_EXPLAINED} at most are explained", "reasons"
            )
        asked = _Asked(texts)
        self._waiting[served.name].append(asked)
        await self._engine.call(partial(self._predict_waiting, served, served.labels))
        assert asked.outputs is not None
        predictions = predictions_of(texts, asked.outputs, served.labels)
        data = [
            Classification(
                index=index,
                label=list(prediction.label) if isinstance(prediction.label, tuple) else prediction.label,
                scores=prediction.probabilities,
                truncated=bool(encoded.left_out[index]),
                **(await self._reasons(served, served.labels, encoded, index, output) if body.reasons else {}),
            )
            for index, (prediction, output) in enumerate(zip(predictions, asked.outputs, strict=True))
        ]
        tokens = int(encoded.lengths.sum())
        return ClassifyAnswer(model=served.name, data=data, usage={"prompt_tokens": tokens, "total_tokens": tokens})

    def _predict_waiting(self, served: ServedModel, task: LabelTask) -> None:
        """Compute the outputs of all requests that wait; in the engine's thread."""
        assert served.classifier is not None
        waiting = self._waiting[served.name]
        batch = [waiting.popleft() for _ in range(len(waiting))]
        if not batch:  # an earlier call has computed them
            return
        texts = [text for asked in batch for text in asked.texts]
        outputs = predict(served.classifier, _encode(texts, served, task), task.kind, _BATCH)
        ends = np.cumsum([len(asked.texts) for asked in batch])
        for asked, found in zip(batch, np.split(outputs, ends[:-1]), strict=True):
            asked.outputs = found

    async def _reasons(
        self, served: ServedModel, task: LabelTask, encoded: EncodedTexts, index: int, output: Any
    ) -> dict[str, Any]:
        """`explained` and `reasons` of a text."""
        assert served.classifier is not None
        label = int(np.argmax(output))
        ids = encoded.batch(np.array([index]))[0][0]  # (T,)
        explained = task.labels[label] if task.labels else "the number"
        if len(ids) < 2:
            return {"explained": explained}
        attributed = Output(served.classifier, task.kind, label, _VERSIONS)
        kept = torch.cat([torch.ones(1, len(ids), dtype=torch.bool), ~torch.eye(len(ids), dtype=torch.bool)])
        parts = [await self._engine.call(partial(attributed.measure, ids, part)) for part in kept.split(_VERSIONS)]
        whole, *_ = evidence = torch.cat(parts)
        columns = zip(
            ids.tolist(),
            (whole - evidence[1:]).tolist(),
            (await self._engine.call(partial(gradient_times_input, attributed, ids))).tolist(),
            (await self._engine.call(partial(rollout_attribution, served.classifier, ids))).tolist(),
            strict=True,
        )
        reasons = [
            Reason(text=served.token_text(token), occlusion=drop, gradient_x_input=gradient, rollout=share)
            for token, drop, gradient, share in columns
        ]
        return {"explained": explained, "reasons": reasons}


def _encode(texts: list[str], served: ServedModel, task: LabelTask) -> EncodedTexts:
    try:
        return EncodedTexts(texts, served.tokenizer, task.truncation, task.add_prefix_space)
    except UserError as error:
        raise RequestError(400, f"input: {error}", "input") from None
    finally:
        served.tokenizer.take_note()
