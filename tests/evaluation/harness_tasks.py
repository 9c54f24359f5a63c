"""Published tasks of lm-evaluation-harness on rows of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
import pyarrow as pa
import pytest
from datasets.table import InMemoryTable
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.harness import HarnessModel

_TASKS = Path(lm_eval.__file__).parent / "tasks"
_FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "blimp": "blimp/_template_yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "piqa": "piqa/piqa.yaml",
    "wikitext": "wikitext/wikitext.yaml",
    "winogrande": "winogrande/default.yaml",
}
Rows = Sequence[dict[str, Any]]


def task(name: str, rows: Rows) -> ConfigurableTask:
    """A task with the published formatting and metrics, on other rows."""
    config = load_yaml(_TASKS / _FILES[name], resolve_func=True)
    split = config.get("test_split") or config["validation_split"]
    splits = {"training_split": None, "validation_split": None, "test_split": split}
    table = InMemoryTable(pa.Table.from_pylist(list(rows)))
    data = {split: datasets.Dataset(table, fingerprint=name)}  # otherwise computed by pickling the table
    return ConfigurableTask(config={**config, **splits, "task": name, "custom_dataset": lambda **metadata: data})


def results(model: LM, tasks: Sequence[ConfigurableTask]) -> dict[str, Any]:
    """What the harness finds, with log-likelihoods of each item as `samples`."""
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=TaskManager(include_defaults=False),  # which reads no other tasks, of which there are thousands
        log_samples=True,
        bootstrap_iters=100,
    )
    assert found is not None
    return found


def on_export(folder: Path) -> HFLM:
    """The harness's own backend."""
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=16)


def on_checkpoint(checkpoint: Path) -> HarnessModel:
    return HarnessModel(str(checkpoint), device="cpu")


def instances(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Instance]:
    """Requests of the harness."""
    return [Instance(kind, {}, pair, number) for number, pair in enumerate(arguments)]


FLOAT32 = 2.0**-23
"""Relative spacing of float32, in which the harness adds up log-likelihoods: beyond 512 nats, 6e-5."""


def assert_same_results(found: dict[str, Any], expected: dict[str, Any], atol: float = 1e-4) -> None:
    """Compare log-likelihoods item by item, whether each is greedy, and all metrics with their standard errors."""
    for name, ours in found["samples"].items():
        theirs = expected["samples"][name]
        assert [sample["arguments"] for sample in ours] == [sample["arguments"] for sample in theirs]
        assert len(theirs) > 0
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(
                numbers(one), numbers(other), rtol=FLOAT32, atol=atol, err_msg=f"{name}: {one['doc']}"
            )
        metrics = {key: value for key, value in expected["results"][name].items() if isinstance(value, float)}
        assert any("stderr" in key for key in metrics) or name == "wikitext"
        for key, value in metrics.items():
            assert found["results"][name][key] == pytest.approx(value, rel=1e-4), key


def numbers(sample: dict[str, Any]) -> list[list[float]]:
    """Log-likelihoods of a sample, and 1 for those that are greedy."""
    return [np.atleast_1d(np.array(response, float)).tolist() for response in sample["filtered_resps"]]


def assert_benchmark_agrees(benchmark: Benchmark, model: LanguageModel, expected: dict[str, Any], name: str) -> None:
    """Compare the records and metrics of a benchmark of `evaluate` with what the harness found on the same rows."""
    subject = Subject(model.network, model.tokenizer, "the model")
    items = benchmark.items(subject, None).items
    found = {record["id"]: record for record in benchmark.records(subject, items)}
    records = [found[item.id] for item in items]
    for record, sample in zip(records, expected["samples"][name], strict=True):
        ours = record["log_likelihoods"] if "log_likelihoods" in record else [record["log_likelihood"]]
        theirs = [value for value, _ in numbers(sample)]
        np.testing.assert_allclose(ours, theirs, rtol=FLOAT32, atol=1e-4, err_msg=f"{name}: {sample['doc']}")
    metrics = {metric.name: metric for metric in benchmark.metrics(records)}
    for metric in ("acc", "acc_norm", "perplexity"):
        if f"{metric},none" in expected["results"][name]:
            assert metrics[metric].value == pytest.approx(expected["results"][name][f"{metric},none"], rel=1e-4)
            if metric != "perplexity":  # the harness draws samples for its standard error
                theirs = expected["results"][name][f"{metric}_stderr,none"]
                assert metrics[metric].stderr == pytest.approx(theirs, rel=1e-4)
