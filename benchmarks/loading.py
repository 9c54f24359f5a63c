"""Speed of data loading, relative to the consumption by training, and its dependence on the size of the corpus.

    python -m benchmarks.loading

The large corpus is a sparse file of two billion tokens, which occupies no disk space. The measured time includes the
page faults of the large corpus; pages of the small corpus are loaded once.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.results import report
from gpt2_lightning.data.sampling.batches import TrainingBatches
from gpt2_lightning.data.sampling.samples import JoinedSamples
from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.training.optimizers import AdamW

BLOCK_SIZE, BATCH_SIZE = 256, 4
SMALL, LARGE = 10**6, 2 * 10**9
TURNS = 9
BATCHES = 400
"""Batches read per repetition."""
STEPS = 3
"""Training steps per repetition."""
WINDOWS = 20_000
"""Windows over which the growth of memory is measured."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large = (_batches(_sequence(Path(folder), tokens)) for tokens in (SMALL, LARGE))
        train = _trainer()
        for warm in (small, large):
            _seconds_a_batch(warm, 0)
        train(small)
        turns = []
        for turn in range(1, TURNS + 1):
            first = turn * BATCHES
            pair = {batches: _seconds_a_batch(batches, first) for batches in ((small, large), (large, small))[turn % 2]}
            turns.append((pair[small], pair[large], train(small)))
        resident = _resident()
        for first in range((TURNS + 1) * BATCHES, (TURNS + 1) * BATCHES + WINDOWS // BATCH_SIZE):
            large[first]
        growth = _resident() - resident
    of_small, of_large, of_step = (statistics.median(turn[i] for turn in turns) for i in range(3))
    print(f"{of_small * 1e6:.0f} µs a batch of the small corpus, {of_large * 1e6:.0f} µs of the large one")
    print(f"{of_step * 1e3:.0f} ms a training step on it")
    report(
        "loading",
        {
            "tokens per second of loading over char_10m's training": round(
                statistics.median(step / one for one, _, step in turns), 1
            ),
            "time per batch, 2 billion tokens over 1 million": round(
                statistics.median(other / one for one, other, _ in turns), 2
            ),
            "memory grown in 20,000 windows of the large corpus, MB": round(growth / 1e6, 2),
        },
    )


def _sequence(folder: Path, tokens: int) -> TokenSequence:
    """Return a sequence of zeros in a file that is sparse if the file system supports it."""
    file = folder / f"{tokens}.bin"
    with file.open("wb") as content:
        content.truncate(2 * tokens)
    return TokenSequence([(file, 0, tokens)], np.dtype("<u2"))


def _batches(sequence: TokenSequence) -> TrainingBatches:
    return TrainingBatches(JoinedSamples(sequence, BLOCK_SIZE, seed=0), BATCH_SIZE)


def _seconds_a_batch(batches: TrainingBatches, first: int) -> float:
    started = time.perf_counter()
    for index in range(first, first + BATCHES):
        batches[index]
    return (time.perf_counter() - started) / BATCHES


def _trainer() -> Callable[[TrainingBatches], float]:
    """Return a function that trains char_10m for a few steps and returns the seconds per step, without data loading."""
    model = GPT2(GPT2Config(65, BLOCK_SIZE, n_layer=6, n_head=6, n_embd=384))
    optimizer = AdamW(lr=1e-3).build(model)

    def seconds_a_step(batches: TrainingBatches) -> float:
        some = [batches[index] for index in range(STEPS)]
        started = time.perf_counter()
        for batch in some:
            loss = cross_entropy(model(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - started) / STEPS

    return seconds_a_step


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    main()
