"""Memory and time of the loss with large vocabularies: computed in chunks, and from all logits at once.

    python -m benchmarks.loss_memory

The forward and backward pass of two heads is measured, in float32 on a CPU: the head of GPT-2 124M, and a narrow head
of a small model with a custom tokenizer. Inputs are random features of 4 x 1,024 tokens. Each variant runs in a
separate process. Memory is the peak resident set size of the process, minus that of a process that creates the same
head and features without computation. Time is the fastest of five repetitions, in seconds.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from benchmarks.results import report
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.gpt2 import Linear
from gpt2_lightning.model.loss import chunked_cross_entropy, cross_entropy

_ROWS, _TOKENS, _TIMES = 4, 1024, 5
_HEADS = {"124M": (GPT2Config().n_embd, GPT2Config().vocab_size), "narrow": (32, 14_000)}
"""Width and vocabulary size by head."""
_WAYS = ("at once", "in parts")


def main() -> None:
    if len(sys.argv) == 3:
        seconds = _compute(*sys.argv[1:])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds)
        return
    figures: dict[str, float] = {}
    for head, (_, n_classes) in _HEADS.items():
        nothing, _ = _measure(head, "nothing")
        found = {}
        for way in _WAYS:
            kibibytes, seconds = _measure(head, way)
            found["megabytes", way], found["seconds", way] = (kibibytes - nothing) * 1024 / 1e6, seconds
        figures[f"{head}: megabytes of the logits"] = round(_ROWS * _TOKENS * n_classes * 4 / 1e6)
        for unit, digits in (("megabytes", 0), ("seconds", 3)):
            for way in _WAYS:
                figures[f"{head}: {unit} {way}"] = round(found[unit, way], digits)
            figures[f"{head}: {unit} in parts over at once"] = round(
                found[unit, "in parts"] / found[unit, "at once"], 3
            )
    report("loss_memory", figures)


def _measure(head: str, way: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.loss_memory", head, way]
    kibibytes, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(kibibytes), float(seconds)


def _compute(name: str, way: str) -> float:
    torch.manual_seed(0)
    width, n_classes = _HEADS[name]
    head = Linear(width, n_classes, bias=False)
    features = torch.randn(_ROWS, _TOKENS, width, requires_grad=True)
    targets = torch.randint(n_classes, (_ROWS, _TOKENS))
    fastest = float("inf")
    for _ in range(_TIMES):
        started = time.perf_counter()
        if way == "at once":
            cross_entropy(head(features), targets, reduction="sum").backward()
        elif way == "in parts":
            chunked_cross_entropy(head, features, targets).backward()
        fastest = min(fastest, time.perf_counter() - started)
        head.weight.grad = features.grad = None
    return fastest


if __name__ == "__main__":
    main()
