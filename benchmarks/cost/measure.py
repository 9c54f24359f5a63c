"""One point: time and peak memory, in a process of its own.

    python -m benchmarks.cost.measure SERIES VALUE FOLDER

FOLDER has the embedded corpus and its tokenizer, as `benchmarks.cost` prepares it. It prints JSON: the seconds, and the
bytes above what the process held before, with those that the project's own estimate predicts where there is one.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.cost.points import BYTES, DECODED, SERIES, STEPS, Step, steps_of
from gpt2_lightning import memory
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import open_prepared
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.tokenizers.saved import from_corpus
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.performance.memory_estimate import StepEstimate
from gpt2_lightning.training.performance.probe import probe_steps
from gpt2_lightning.training.schedules import Constant
from gpt2_lightning.training.trainer import TrainerSpec

_CPU = torch.device("cpu")
_TIMED, _WARM_UP = 5, 16
"""Timed training steps, and tokens that are generated before the timed text."""
Point = dict[str, float]


def main() -> None:
    series, value, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if series in STEPS:
        found = _training(steps_of(series)[SERIES[series].index(value)], folder)
    else:
        found = _generation(value) if series == "generation" else _prepare(value, folder)
    print(json.dumps(found))


def _training(step: Step, folder: Path) -> Point:
    tokens = open_prepared(folder / "shards", from_corpus((), False, str(folder / "tokenizer.json")), folder)
    data = TokenDataModule([tokens], step.context, step.batch, step.batch, seed=0)
    spec = TrainerSpec(max_steps=_TIMED + 1, accelerator="cpu")

    def make_module() -> LanguageModeling:
        return LanguageModeling(GPT2(step.config), AdamW(lr=1e-4), Constant())

    memory.reset_peak(_CPU)
    before = memory.peak(_CPU) or 0
    probe = probe_steps(make_module, data, spec, parts=1, steps=_TIMED + 1)
    after = memory.peak(_CPU) or 0
    estimate = StepEstimate(make_module, data, spec)
    expected = estimate.held.together + estimate.activations(step.batch, step.context)
    return {"seconds": probe.seconds_to_step, "bytes": after - before, "expected_bytes": expected}


def _generation(length: int) -> Point:
    torch.manual_seed(0)
    prompt = torch.zeros(1, dtype=torch.int64)
    memory.reset_peak(_CPU)
    before = memory.peak(_CPU) or 0
    model = GPT2(DECODED).eval()
    for tokens in (_WARM_UP, length):
        started = time.perf_counter()
        count = sum(1 for _ in generate(model, prompt, Sampling(max_new_tokens=tokens, temperature=0.0)))
        seconds = time.perf_counter() - started
        assert count == tokens, "no token ends the text"
    held = BYTES * (count_parameters(DECODED) + 2 * DECODED.n_layer * DECODED.n_embd * length)
    after = memory.peak(_CPU) or 0
    return {"seconds": seconds, "bytes": after - before, "expected_bytes": held}


def _prepare(megabytes: int, folder: Path) -> Point:
    """Encode a text by GPT-2's tokenizer, in a program of its own, whose largest process counts."""
    text = "".join(TextCorpus(path="embedded:scifi").training_text()).encode()
    book = folder / f"{megabytes}.txt"
    book.write_bytes((text * (1 + megabytes * 10**6 // len(text)))[: megabytes * 10**6])
    places = [f"data.path={book}", f"output={folder / f'encoded-{megabytes}'}", f"cache_dir={folder / 'cache'}"]
    command = [sys.executable, "-m", "gpt2_lightning", "prepare", "data=text", "tokenizer=gpt2", *places]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}


if __name__ == "__main__":
    main()
