"""Speed of generation, relative to Hugging Face's `generate`, CTranslate2 and a loop without a KV cache.

    python -m benchmarks.generation [float32] [int8] [bfloat16]

The model is GPT-2 124M with random weights, the same for all programs, in each of the given kinds of weights, by
default in all. Batch sizes are 1 and 8, with prompts of 32 tokens, 128 new tokens, greedy decoding and two threads.
Weights are converted and packed, and every program has run, before it is timed. Programs run in alternation, and the
result is the median of the ratios. Figures of kinds that are not given remain. CTranslate2 is included if it is
installed; the project does not require it.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.results import FOLDER, report
from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.huggingface import config_to_huggingface, folder, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.model.inference.quantized import quantize
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.tokenizers import GPT2Tokenizer

_THREADS = 2
_PROMPT, _NEW = 32, 128
_BATCH_SIZES = (1, 8)
_TURNS = 3
_EARLY, _LATE, _AROUND = 100, 900, 25
"""Positions in a long text at which the speed is compared, and the tokens timed before and after each."""

_BYTES = {"float32": 4, "int8": 1, "bfloat16": 2}
"""Size of a weight by its kind."""

Program = Callable[[Tensor], Any]


def main() -> None:
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    kinds = sys.argv[1:] or [*_BYTES]
    model = GPT2(GPT2Config()).eval()
    figures = _earlier(kinds)
    with tempfile.TemporaryDirectory() as place:
        ctranslate2 = _ctranslate2(model, Path(place))
        for kind in kinds:
            ours = _convert(model, kind)
            others = _others(kind, model, ctranslate2)
            for batch_size in _BATCH_SIZES:
                figures |= _beside(others, kind, ours, batch_size)
            figures |= _late(kind, ours)
    report("generation", {key: round(value, 3) for key, value in figures.items()})


def _earlier(kinds: list[str]) -> dict[str, float]:
    """Return the saved figures of the other kinds of weights."""
    file = FOLDER / "generation.json"
    saved = json.loads(file.read_text())["figures"] if file.exists() else {}
    return {name: figure for name, figure in saved.items() if not name.startswith(tuple(kinds))}


def _convert(model: GPT2, kind: str) -> GPT2:
    """Return a copy of a float32 model with weights of this kind."""
    ours = copy.deepcopy(model)
    if kind != "int8":
        return ours.to(getattr(torch, kind))
    quantize(ours)
    return ours


def _others(kind: str, model: GPT2, ctranslate2: dict[str, Program]) -> dict[str, Program]:
    """Return the programs beside ours. Of CTranslate2's kinds of weights, bfloat16 is not supported on every CPU."""
    if kind == "int8":  # which transformers does not have on a CPU
        return {name: program for name, program in ctranslate2.items() if name.endswith(kind)}
    theirs = _huggingface(model).to(getattr(torch, kind))
    beside: dict[str, Program] = {"Hugging Face": lambda ids: _generate(theirs, ids)}
    return beside | ctranslate2 if kind == "float32" else beside


def _huggingface(model: GPT2) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(GPT2Config(**config_to_huggingface(model.config))).eval()
    theirs.load_state_dict(to_huggingface(model), strict=False)
    return theirs


def _generate(theirs: Any, ids: Tensor) -> Any:
    seen = torch.ones_like(ids)
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return theirs.generate(ids, attention_mask=seen, max_new_tokens=_NEW, **settings)


def _ctranslate2(model: GPT2, place: Path) -> dict[str, Program]:
    """Return CTranslate2 with the model's weights by compute type; an empty dict if it is not installed."""
    if importlib.util.find_spec("ctranslate2") is None:
        return {}
    import ctranslate2

    folder.write(model, GPT2Tokenizer(), place / "huggingface", card="", max_shard_bytes=2**40)
    programs = {}
    for kind in ("float32", "int8"):
        converter = ctranslate2.converters.TransformersConverter(str(place / "huggingface"))
        converter.convert(str(place / kind), quantization=kind)
        generator = ctranslate2.Generator(str(place / kind), compute_type=kind, intra_threads=_THREADS)
        tokens = json.loads((place / kind / "vocabulary.json").read_text())
        programs[f"CTranslate2 {kind}"] = _translator(generator, tokens)
    return programs


def _translator(generator: Any, tokens: list[str]) -> Program:
    lengths = {"min_length": _NEW, "max_length": _NEW, "include_prompt_in_result": False}
    return lambda ids: generator.generate_batch(
        [[tokens[token] for token in row] for row in ids.tolist()], sampling_topk=1, **lengths
    )


def _beside(others: dict[str, Program], kind: str, model: GPT2, batch_size: int) -> dict[str, float]:
    """Return our speed relative to each program, to the loop without a cache, and to the memory-bandwidth limit."""
    name = f"{kind}, batch {batch_size}"
    ids = torch.randint(model.config.vocab_size, (batch_size, _PROMPT))
    programs: dict[str, Program] = {"ours": lambda ids: _ours(model, ids), **others}
    with packed(model, batch_size):
        for program in programs.values():
            program(ids)
        turns = [_turn(programs, kind, model, ids) for _ in range(_TURNS)]
    for key in turns[0]:
        median = statistics.median(turn[key] for turn in turns)
        spread = max(turn[key] for turn in turns) / min(turn[key] for turn in turns)
        print(f"{name}: {key:24} {batch_size * _NEW / median:7.1f} tokens/s, slowest turn {spread:.2f} of the fastest")
    return {
        f"{name}: speed over {key}": statistics.median(turn[key] / turn["ours"] for turn in turns)
        for key in turns[0]
        if key != "ours"
    }


def _turn(programs: dict[str, Program], kind: str, model: GPT2, ids: Tensor) -> dict[str, float]:
    """Return the seconds of each program, once, and of what is estimated from a part of its work."""
    seconds = {key: _seconds(program, ids) for key, program in programs.items()}
    seconds["a loop without a cache"] = _without_cache(model, len(ids))
    seconds["what memory allows"] = _NEW * _seconds_to_read_weights(kind, model)
    return seconds


def _ours(model: GPT2, ids: Tensor) -> None:
    for _ in Decoder(model, list(ids), Sampling(max_new_tokens=_NEW, temperature=0)):
        pass


@torch.inference_mode()
def _without_cache(model: GPT2, batch_size: int) -> float:
    """Return the seconds of a loop that recomputes the whole text for each token, from five of its steps."""
    lengths = range(_PROMPT, _PROMPT + _NEW, _NEW // 5 + 1)
    ids = torch.randint(model.config.vocab_size, (batch_size, _PROMPT + _NEW))

    def step(length: int) -> Tensor:
        return model(ids[:, :length])[:, -1].argmax(dim=-1)

    steps = [_seconds(step, length) for length in lengths]
    return _NEW * statistics.mean(steps)


def _seconds_to_read_weights(kind: str, model: GPT2) -> float:
    """Return the seconds to read each weight once, except position embeddings, of which a token reads one row."""
    config = model.config
    size = _BYTES[kind] * (count_parameters(config) - config.block_size * config.n_embd)
    memory = torch.ones(2**27 // 4)  # larger than the caches of processors
    return size / memory.nbytes * min(_seconds(memory.sum) for _ in range(3))


def _late(name: str, model: GPT2) -> dict[str, float]:
    """Return the speed around the 900th token relative to the 100th, with and without the time of attention."""
    ratios = []
    for _ in range(_TURNS):
        early, late = (_seconds_a_token(model, length) for length in (_EARLY, _LATE))
        attention = _attention_seconds(model, _LATE) - _attention_seconds(model, _EARLY)
        ratios.append((early / late, early / (late - attention)))
    with_attention, without = (statistics.median(ratio[i] for ratio in ratios) for i in (0, 1))
    return {
        f"{name}: speed at token {_LATE} over that at token {_EARLY}": with_attention,
        f"{name}: the same without attention's own time": without,
    }


def _seconds_a_token(model: GPT2, length: int) -> float:
    """Return the median seconds per token around a text length."""
    prompt = torch.randint(model.config.vocab_size, (length - _AROUND,))
    ends = [time.perf_counter() for _ in Decoder(model, [prompt], Sampling(2 * _AROUND, temperature=0))]
    return statistics.median(after - before for before, after in itertools.pairwise(ends))


@torch.inference_mode()
def _attention_seconds(model: GPT2, length: int) -> float:
    """Return the median seconds of attention for one token, all layers, with float32 keys and values as cached."""
    config = model.config
    held = torch.randn(config.n_layer, 2, 1, config.n_head, length, config.head_size)
    query = torch.randn(1, config.n_head, 1, config.head_size)
    return statistics.median(
        _seconds(lambda: [F.scaled_dot_product_attention(query, k, v) for k, v in held]) for _ in range(21)
    )


def _seconds(act: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
