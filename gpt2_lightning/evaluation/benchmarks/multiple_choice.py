"""Multiple choice: the choice with the highest log-likelihood is the prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from gpt2_lightning.evaluation.benchmarks.benchmark import ItemRecord
from gpt2_lightning.evaluation.benchmarks.likelihood_benchmark import LikelihoodTable
from gpt2_lightning.evaluation.benchmarks.questions import ROW_FORMATS, Question
from gpt2_lightning.evaluation.likelihood.encoding import encode_request
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.results.comparison import Option, ShownItem
from gpt2_lightning.evaluation.results.intervals import share
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.settings import OneOf
from gpt2_lightning.tokenizers import Tokenizer

ACCURACIES = {
    "acc": lambda choice, tokens: 1,
    "acc_norm": lambda choice, tokens: len(choice),
    "acc_bytes": lambda choice, tokens: len(choice.encode()),
    "acc_tokens": lambda choice, tokens: tokens,
}
"""Accuracies by name. Each divides the log-likelihood of a choice by a function of its text and of the number of its
tokens: 1, characters, bytes or tokens. The first three are those of lm-evaluation-harness."""


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(LikelihoodTable):
    """Questions whose answer is one of several choices.

    The log-likelihood of each choice is that of `lm_eval.api.task.ConfigurableTask` of lm-evaluation-harness with
    `output_type: multiple_choice`, and so is the prediction among choices with equal values: the first of them.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    row_format: Annotated[str, OneOf(ROW_FORMATS)] = "choices"
    """Columns of a row, and the text made of them; one of `questions.ROW_FORMATS`."""
    delimiter: str = " "
    """Text between a context and its continuation."""
    accuracies: Annotated[list[Annotated[str, OneOf(ACCURACIES)]], MinLen(1)] = field(
        default_factory=lambda: ["acc", "acc_norm", "acc_bytes", "acc_tokens"]
    )
    """Accuracies to compute, of `ACCURACIES`; the first is the main one."""

    def parse(self, row: dict[str, Any]) -> Question:
        return ROW_FORMATS[self.row_format](row)

    def requests(self, tokenizer: Tokenizer, value: Question) -> list[Request]:
        continuations = [self.delimiter + continuation for continuation in value.continuations]
        return [encode_request(tokenizer, context, continuations) for context in value.contexts]

    def record(self, value: Question, likelihoods: list[list[Likelihood]]) -> dict[str, Any]:
        of_choices = [one for of_request in likelihoods for one in of_request]
        found = [one.log_likelihood for one in of_choices]
        predictions = {}
        for name in self.accuracies:
            lengths = [
                ACCURACIES[name](choice, one.tokens) for choice, one in zip(value.choices, of_choices, strict=True)
            ]
            normalized = [total / length if length else -math.inf for total, length in zip(found, lengths, strict=True)]
            predictions[name] = int(np.argmax(normalized))
        return {
            "answer": value.answer,
            "log_likelihoods": found,
            "predictions": predictions,
            "correct": {name: int(prediction == value.answer) for name, prediction in predictions.items()},
            "context": value.contexts[value.answer if len(value.contexts) > 1 else 0],
            "choices": list(value.choices),
        }

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        return [share(name, [record["correct"][name] for record in records]) for name in self.accuracies]

    def shown(self, record: ItemRecord, metric: str) -> ShownItem:
        choices = zip(record["choices"], record["log_likelihoods"], strict=True)
        answer, chosen = record["answer"], record["predictions"][metric]
        options = (Option(text, value, i == answer, i == chosen) for i, (text, value) in enumerate(choices))
        return ShownItem(record["context"], tuple(options))
