"""Memory and time of the loss at GPT-2's vocabulary: in parts, and from all logits at once.

    python -m benchmarks.loss_memory

The head of GPT-2 124M reads random features of 4 x 1,024 tokens, forward and backward, in float32 on a CPU. Each way
is a process of its own. What is measured is the largest resident set of the process; a process that makes the same head
and features and computes nothing is taken off.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from benchmarks.results import report
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.linear import Linear
from gpt2_lightning.model.loss import LARGEST_LOGITS, cross_entropy, summed_loss

_ROWS, _TOKENS = 4, 1024
_WAYS = ("at once", "in parts")


def main() -> None:
    if len(sys.argv) == 2:
        seconds = _compute(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds)
        return
    nothing, _ = _measure("nothing")
    figures: dict[str, float] = {}
    for way in _WAYS:
        kibibytes, seconds = _measure(way)
        figures[f"megabytes {way}"] = round((kibibytes - nothing) * 1024 / 1e6)
        figures[f"seconds {way}"] = round(seconds, 2)
    for unit in ("megabytes", "seconds"):
        figures[f"{unit} in parts over at once"] = round(figures[f"{unit} in parts"] / figures[f"{unit} at once"], 3)
    figures["megabytes of the logits"] = round(_ROWS * _TOKENS * GPT2Config().vocab_size * 4 / 1e6)
    figures["megabytes of the logits of a part, at most"] = round(LARGEST_LOGITS * 4 / 1e6)
    report("loss_memory", figures)


def _measure(way: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.loss_memory", way]
    kibibytes, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(kibibytes), float(seconds)


def _compute(way: str) -> float:
    torch.manual_seed(0)
    config = GPT2Config()
    head = Linear(config, config.n_embd, config.vocab_size, bias=False)
    features = torch.randn(_ROWS, _TOKENS, config.n_embd, requires_grad=True)
    targets = torch.randint(config.vocab_size, (_ROWS, _TOKENS))
    started = time.perf_counter()
    if way == "at once":
        cross_entropy(head(features), targets, reduction="sum").backward()
    elif way == "in parts":
        summed_loss(head, features, targets).backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
