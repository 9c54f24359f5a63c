"""Memory of LoRA and of full fine-tuning of GPT-2 124M, on a CPU in float32.

    python -m benchmarks.lora_memory

Each variant runs in a separate process with random weights, for three optimizer steps on two rows of 128 tokens. The
result is the peak resident set size of the process, minus that of a process with the same imports and no training.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch

from benchmarks.results import report
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.training.optimizers import AdamW

_TARGETS = {"attention": ["qkv", "attn_out"], "all_linear": ["qkv", "attn_out", "mlp_up", "mlp_down"]}
_ROWS, _TOKENS, _STEPS = 2, 128, 3


def main() -> None:
    if len(sys.argv) == 2:
        _train(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    nothing = _kibibytes("nothing")
    figures: dict[str, float] = {}
    for what in ("whole", *_TARGETS):
        figures[f"megabytes to train {what}"] = round((_kibibytes(what) - nothing) * 1024 / 1e6)
    for what in _TARGETS:
        share = figures[f"megabytes to train {what}"] / figures["megabytes to train whole"]
        figures[f"memory to train {what} over whole"] = round(share, 3)
    report("lora_memory", figures)


def _kibibytes(what: str) -> int:
    command = [sys.executable, "-m", "benchmarks.lora_memory", what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _train(what: str) -> None:
    if what == "nothing":
        return
    torch.manual_seed(0)
    model = GPT2(GPT2Config())
    if what in _TARGETS:
        add_lora(model, LoRASpec(rank=8, alpha=16.0, targets=tuple(_TARGETS[what])))
    optimizer = AdamW(lr=1e-4).build(model)
    ids = torch.randint(model.config.vocab_size, (_ROWS, _TOKENS + 1))
    for _ in range(_STEPS):
        optimizer.zero_grad()
        cross_entropy(model(ids[:, :-1]), ids[:, 1:]).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
