"""Speed of log-likelihoods, relative to lm-evaluation-harness with its `hf` backend on the export of the same model.

    python -m benchmarks.likelihood FOLDER [ITEMS]

FOLDER holds `hellaswag/*.jsonl` (rows of the original schema) and `lambada/*.jsonl` (`context`, `continuation`). The
model is GPT-2 124M with random weights in float32, with two threads. Both programs encode and score the same texts, in
alternation, ITEMS (default 128) at a time; the result is the median of the ratios. The batch size of the harness is the
fastest of 1, 8 and 16.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.results import report
from gpt2_lightning.evaluation.likelihood.encoding import encode_request
from gpt2_lightning.evaluation.likelihood.scorer import Scorer
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.tokenizers import GPT2Tokenizer

_THREADS, _TURNS = 2, 3
_BATCH_SIZES = (1, 8, 16)
"""Batch sizes of the harness that are compared, on an eighth of the items of a turn."""

Item = tuple[str, list[str]]
"""A context and its continuations."""


def main() -> None:
    data, n_items = Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 128
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    subject = Subject(GPT2(GPT2Config()).eval(), GPT2Tokenizer(), "random weights")
    harness = _harness(subject)
    figures: dict[str, float] = {}
    with packed(subject.model):
        for name, parse in (("hellaswag", _hellaswag), ("lambada", _lambada)):
            items = [parse(json.loads(line)) for file in (data / name).glob("*.jsonl") for line in file.open()]
            figures |= _compare(name, items[:: len(items) // (_TURNS * n_items)], n_items, subject, harness)
    report("likelihood", figures)


def _hellaswag(row: dict[str, Any]) -> Item:
    context, *endings = (
        re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")
        for text in (f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}", *row["endings"])
    )
    return context, [f" {ending}" for ending in endings]


def _lambada(row: dict[str, Any]) -> Item:
    return row["context"], [f" {row['continuation']}"]


def _harness(subject: Subject) -> Any:
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory() as place:
        export = Path(place) / "export"
        folder.write(subject.model, subject.tokenizer, export, card="", max_shard_bytes=2**40)
        return HFLM(pretrained=str(export), device="cpu", dtype="float32")


def _compare(name: str, items: list[Item], n_items: int, subject: Subject, harness: Any) -> dict[str, float]:
    """Return the speeds of both programs and their ratio."""
    few = items[: n_items // 8]
    seconds = {}
    for batch_size in _BATCH_SIZES:
        harness.batch_size_per_gpu = batch_size
        _theirs(harness, few[:1])
        seconds[batch_size], _ = _timed(_theirs, harness, few)
    fastest = min(seconds, key=lambda batch_size: seconds[batch_size])
    harness.batch_size_per_gpu = fastest
    _ours(subject, few)
    times = []
    difference = 0.0
    for turn in range(_TURNS):
        of_turn = items[turn * n_items : (turn + 1) * n_items]
        ours, our_values = _timed(_ours, subject, of_turn)
        theirs, their_values = _timed(_theirs, harness, of_turn)
        difference = max(difference, *(abs(a - b) for a, b in zip(our_values, their_values, strict=True)))
        times.append((ours, theirs))
        print(
            f"{name}, {n_items} items: {ours:.1f} s, {theirs:.1f} s by the harness with batch size {fastest}",
            flush=True,
        )
    return {
        f"{name}: items per second": round(n_items / statistics.median(ours for ours, _ in times), 2),
        f"{name}: speed over lm-evaluation-harness": round(statistics.median(b / a for a, b in times), 2),
        f"{name}: fastest batch size of lm-evaluation-harness": fastest,
        f"{name}: largest difference of log-likelihoods": round(difference, 6),
    }


def _ours(subject: Subject, items: list[Item]) -> list[float]:
    requests = [[encode_request(subject.tokenizer, *item)] for item in items]
    found = dict(Scorer(subject).score(requests))
    return [one.log_likelihood for index in range(len(items)) for of_request in found[index] for one in of_request]


def _theirs(harness: Any, items: list[Item]) -> list[float]:
    requests = [SimpleNamespace(args=(context, text)) for context, continuations in items for text in continuations]
    return [total for total, _ in harness.loglikelihood(requests, disable_tqdm=True)]


def _timed(act: Callable[..., list[float]], *arguments: Any) -> tuple[float, list[float]]:
    started = time.perf_counter()
    values = act(*arguments)
    return time.perf_counter() - started, values


if __name__ == "__main__":
    main()
