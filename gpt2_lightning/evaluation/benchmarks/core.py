"""CORE: the mean centered accuracy of 22 tasks (Li et al. 2024, DataComp-LM, section 3.5), as nanochat computes it.

Tasks, shots and random baselines are those of `eval_meta_data_v1.csv`, `additional_aggregation.json` and
`mmlu_and_lowvar.yaml` in mlfoundations/dclm; prompts and predictions those of `nanochat/core_eval.py`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from gpt2_lightning.data.tables.records import BadRow, BadRows
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.evaluation.benchmarks.benchmark import Item, ItemRecord, Items
from gpt2_lightning.evaluation.benchmarks.likelihood_benchmark import (
    LikelihoodBenchmark,
    ParsedRow,
    require_language_model,
)
from gpt2_lightning.evaluation.benchmarks.questions import ROW_FORMATS
from gpt2_lightning.evaluation.benchmarks.source import SourceRows, read_rows
from gpt2_lightning.evaluation.likelihood.encoding import prefix_token
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request, TokenIds
from gpt2_lightning.evaluation.results.intervals import Z, share
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.settings import PositiveInt
from gpt2_lightning.tokenizers import Tokenizer

ADDRESS = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
BUNDLE = "eval_bundle"
"""Folder within `data_dir`."""
Kind = Literal["multiple_choice", "schema", "language_modeling"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """Definition of a task."""

    kind: Kind
    shots: int
    """Number of examples before the question."""
    baseline: float
    """Accuracy of random answers."""
    file: str
    """File in a folder of the bundle."""
    delimiter: str = " "
    """Text between a context and its continuation."""


_ANSWER = "\nAnswer: "
TASKS = {
    "hellaswag_zeroshot": Task("multiple_choice", 0, 0.25, "hellaswag.jsonl"),
    "jeopardy": Task("language_modeling", 10, 0.0, "jeopardy_all.jsonl", _ANSWER),
    "bigbench_qa_wikidata": Task("language_modeling", 10, 0.0, "bigbench_qa_wikidata.jsonl"),
    "arc_easy": Task("multiple_choice", 10, 0.25, "arc_easy.jsonl", _ANSWER),
    "arc_challenge": Task("multiple_choice", 10, 0.25, "arc_challenge.jsonl", _ANSWER),
    "copa": Task("multiple_choice", 0, 0.5, "copa.jsonl"),
    "commonsense_qa": Task("multiple_choice", 10, 0.2, "commonsense_qa.jsonl"),
    "piqa": Task("multiple_choice", 10, 0.5, "piqa.jsonl", _ANSWER),
    "openbook_qa": Task("multiple_choice", 0, 0.25, "openbook_qa.jsonl"),
    "lambada_openai": Task("language_modeling", 0, 0.0, "lambada_openai.jsonl"),
    "hellaswag": Task("multiple_choice", 10, 0.25, "hellaswag.jsonl"),
    "winograd": Task("schema", 0, 0.5, "winograd_wsc.jsonl"),
    "winogrande": Task("schema", 0, 0.5, "winogrande.jsonl"),
    "bigbench_dyck_languages": Task("language_modeling", 10, 0.0, "bigbench_dyck_languages.jsonl"),
    "agi_eval_lsat_ar": Task("multiple_choice", 3, 0.2, "agi_eval_lsat_ar.jsonl"),
    "bigbench_cs_algorithms": Task("language_modeling", 10, 0.0, "bigbench_cs_algorithms.jsonl"),
    "bigbench_operators": Task("language_modeling", 10, 0.0, "bigbench_operators.jsonl"),
    "bigbench_repeat_copy_logic": Task("language_modeling", 10, 0.0, "bigbench_repeat_copy_logic.jsonl"),
    "squad": Task("language_modeling", 10, 0.0, "squad.jsonl"),
    "coqa": Task("language_modeling", 0, 0.0, "coqa.jsonl"),
    "boolq": Task("multiple_choice", 10, 0.62, "boolq.jsonl", _ANSWER),
    "bigbench_language_identification": Task("multiple_choice", 10, 0.091, "bigbench_language_identification.jsonl"),
}
_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "language_modeling": ("context", "continuation"),
}
_TYPES: dict[str, type] = {"gold": int, "choices": list, "context_options": list}
"""Types of columns that are no text."""
_ELSEWHERE = {"hellaswag.jsonl": "hellaswag/*val*.jsonl", "lambada_openai.jsonl": "lambada/*.jsonl"}
"""Files of other benchmarks in `data_dir` that serve where the bundle is absent."""


@dataclass(frozen=True)
class Prompt:
    """One item of a task, with the examples before it."""

    task: str
    definition: Task
    row: Row
    shots: list[Row]


@dataclass(frozen=True, kw_only=True)
class Core(LikelihoodBenchmark):
    """CORE, over the tasks whose data is in `data_dir/eval_bundle`.

    The accuracy of each task is centered, (accuracy - baseline) / (1 - baseline), and CORE is the mean over all 22. Of
    fewer tasks, the mean is called `core_partial`, and a note names those that are missing.

    An end-of-text token precedes each prompt. Multiple choice and schemas compare the mean log-likelihood of the tokens
    that differ, or follow what differs; in language modeling all tokens of the answer must be the most likely ones. A
    prompt longer than the context loses its first tokens.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    limit: PositiveInt | None = None
    """Number of items of each task, the first in nanochat's order; null for all."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        require_language_model(subject)
        found = {name: file for name in TASKS if data_dir and (file := _file(data_dir, TASKS[name].file))}
        if data_dir is None or not found:
            raise UserError(f"no task of CORE has its data; extract {ADDRESS} into {data_dir or 'FOLDER'}/{BUNDLE}")
        tables = {file: read_rows(file) for file in dict.fromkeys(found.values())}
        tasks = _definitions(data_dir)
        items = [item for name, file in found.items() for item in self._items(name, tasks[name], tables[file])]
        digests = [table.digest for table in tables.values()] + [repr(tasks)]
        missing = [name for name in TASKS if name not in found]
        note = f"the mean of {len(found)} of 22 tasks is not CORE; missing: {', '.join(missing)}; see {ADDRESS}"
        digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Items(items, str(data_dir), digest, (note,) if missing else ())

    def requests(self, tokenizer: Tokenizer, value: Prompt) -> list[Request]:
        task, row = value.definition, value.row
        before = "".join(f"{_answered(task, shot)}\n\n" for shot in value.shots)
        if task.kind == "language_modeling":
            context = f"{before}{row['context'].strip()}{task.delimiter}"
            without, whole = _encoded(tokenizer, [context.strip(), context + row["continuation"]])
            return [Request(without, (whole[len(without) :],))]
        if task.kind == "schema":
            texts = [f"{before}{context}{task.delimiter}{row['continuation']}" for context in row["context_options"]]
            prompts = _encoded(tokenizer, texts)
            common = _common([prompt[::-1] for prompt in prompts])
            return [Request(prompt[:-common], (prompt[-common:],)) for prompt in prompts]
        prompts = _encoded(tokenizer, [f"{before}{row['query']}{task.delimiter}{choice}" for choice in row["choices"]])
        common = _common(prompts)
        return [Request(prompts[0][:common], tuple(prompt[common:] for prompt in prompts))]

    def record(self, value: Prompt, likelihoods: list[list[Likelihood]]) -> dict[str, Any]:
        of_choices = [one for of_request in likelihoods for one in of_request]
        if value.definition.kind == "language_modeling":
            return {"task": value.task, "correct": {value.task: int(of_choices[0].is_greedy)}}
        prediction = int(np.argmax([one.log_likelihood / one.tokens for one in of_choices]))
        answer = int(value.row["gold"])
        correct = {value.task: int(prediction == answer)}
        return {"task": value.task, "answer": answer, "prediction": prediction, "correct": correct}

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        values: dict[str, list[int]] = {}
        for record in records:
            values.setdefault(record["task"], []).append(record["correct"][record["task"]])
        accuracies = [share(name, values[name]) for name in TASKS if name in values]
        return [centered_mean(accuracies), *accuracies]

    def _items(self, name: str, task: Task, table: SourceRows) -> list[Item]:
        bad, rows = BadRows(), []
        for record in table.records:
            try:
                rows.append((record.place, _checked(task.kind, record.values)))
            except BadRow as reason:
                bad.add(record.place, reason)
        if bad.count:
            raise UserError(f"{table.location} cannot be evaluated; correct or remove these rows: {bad}")
        random.Random(1337).shuffle(rows)
        rows = rows[: self.limit]
        items = []
        for index, (place, row) in enumerate(rows):
            drawn = random.Random(1234 + index).sample(range(len(rows) - 1), min(task.shots, len(rows) - 1))
            shots = [rows[other + (other >= index)][1] for other in drawn]
            items.append(Item(f"{name}/{index}", ParsedRow(place, Prompt(name, task, row, shots))))
        return items


def centered_mean(accuracies: Sequence[Metric]) -> Metric:
    """Mean of the centered accuracies of tasks, by their names in `TASKS`: `core` of all tasks, else `core_partial`."""
    n = len(accuracies)
    rooms = [1 - TASKS[metric.name].baseline for metric in accuracies]
    value = sum(1 - (1 - metric.value) / room for metric, room in zip(accuracies, rooms, strict=True)) / n
    variances = [((metric.stderr or 0.0) / room) ** 2 for metric, room in zip(accuracies, rooms, strict=True)]
    stderr = sum(variances) ** 0.5 / n
    name = "core" if n == len(TASKS) else "core_partial"
    return Metric(name, value, stderr, value - Z * stderr, value + Z * stderr)


def _file(data_dir: Path, name: str) -> Path | None:
    patterns = [f"{BUNDLE}/**/{name}", *([_ELSEWHERE[name]] if name in _ELSEWHERE else [])]
    return next((file for pattern in patterns for file in sorted(data_dir.expanduser().glob(pattern))), None)


def _definitions(data_dir: Path) -> dict[str, Task]:
    """Return the tasks, with the shots and delimiters of the bundle's `core.yaml` if there is one."""
    file = data_dir.expanduser() / BUNDLE / "core.yaml"
    if not file.is_file():
        return TASKS
    try:
        stated = {task["label"]: task for task in yaml.safe_load(file.read_text(encoding="utf-8"))["icl_tasks"]}
        return {
            name: Task(
                task.kind,
                int(stated[name]["num_fewshot"][0]),
                task.baseline,
                task.file,
                stated[name].get("continuation_delimiter", " "),
            )
            for name, task in TASKS.items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, yaml.YAMLError) as error:
        raise UserError(f"{file} is not the file of {ADDRESS}: {error!r}; extract it again") from None


def _checked(kind: Kind, row: dict[str, Any]) -> Row:
    """Return a row of the bundle, also from one of HellaSwag's own rows."""
    if kind == "multiple_choice" and "endings" in row:
        question = ROW_FORMATS["hellaswag"](row)
        return {"query": question.contexts[0], "choices": question.continuations, "gold": question.answer}
    for column in _COLUMNS[kind]:
        value = row.get(column)
        is_right = isinstance(value, _TYPES.get(column, str))
        if not is_right or (value in ("", []) and column != "context"):
            raise BadRow(f"{column} is {shortened(value)}, which is none of a task of kind {kind}")
    if kind != "language_modeling" and not 0 <= row["gold"] < len(row[_COLUMNS[kind][kind == "multiple_choice"]]):
        raise BadRow(f"gold is {row['gold']}, and must be an index of the choices")
    return row


def _answered(task: Task, row: Row) -> str:
    """Return an example with its answer."""
    if task.kind == "language_modeling":
        return f"{row['context'].strip()}{task.delimiter}{row['continuation']}"
    if task.kind == "schema":
        return f"{row['context_options'][row['gold']]}{task.delimiter}{row['continuation']}"
    return f"{row['query']}{task.delimiter}{row['choices'][row['gold']]}"


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[TokenIds]:
    first = np.array([prefix_token(tokenizer)], dtype=tokenizer.dtype)
    return [np.concatenate([first, tokenizer.encode(text)]) for text in texts]


def _common(prompts: Sequence[TokenIds]) -> int:
    """Number of tokens with which all prompts begin, at least one token less than the shortest has."""
    shortest = min(map(len, prompts)) - 1
    differs = np.any([prompt[:shortest] != prompts[0][:shortest] for prompt in prompts], axis=0)
    return int(np.argmax(differs)) if differs.any() else shortest
