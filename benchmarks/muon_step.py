"""Time of an optimizer step of Muon, which stacks matrices of one shape, over that of torch's Muon, matrix by matrix.

    python -m benchmarks.muon_step

Both include AdamW for all other parameters. They step the shapes of the models char and char_10m in alternation, on one
CPU thread; the time is that of the processor, so that other programs hardly count.
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.results import report
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training.optimizers import Muon
from gpt2_lightning.training.optimizers.parameter_groups import matrices_in_blocks

# block_size, n_layer, n_head, n_embd, turns
SIZES = {"char": (64, 4, 4, 128, 61), "char_10m": (256, 6, 6, 384, 9)}


def main() -> None:
    torch.set_num_threads(1)
    ratios = {}
    for name, (block_size, n_layer, n_head, n_embd, turns) in SIZES.items():
        model = GPT2(GPT2Config(65, block_size, n_layer, n_head, n_embd))
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizers = ([Muon(lr=1e-3).build(model)], torchs(model))
        seconds = [[cpu_time(each) for each in optimizers] for _ in range(turns + 1)][1:]  # the first one warms up
        ratios[f"{name}: stacked over matrix by matrix"] = round(statistics.median(a / b for a, b in seconds), 3)
        ours, theirs = (statistics.median(turn[i] for turn in seconds) * 1e3 for i in (0, 1))
        print(f"{name}: {ours:.2f} ms a step stacked, {theirs:.2f} ms matrix by matrix")
    report("muon_step", ratios)


def torchs(model: GPT2) -> list[torch.optim.Optimizer]:
    """Return torch's Muon of the same matrices, with queries, keys and values apart, and AdamW of the rest."""
    in_blocks = matrices_in_blocks(model)
    parts: list[torch.Tensor] = []
    for parameter, count in in_blocks.items():
        assert parameter.grad is not None
        for part, gradient in zip(parameter.detach().chunk(count), parameter.grad.chunk(count), strict=True):
            part.grad = gradient
            parts.append(part)
    rest = [parameter for parameter in model.parameters() if parameter not in in_blocks]
    return [torch.optim.Muon(parts), torch.optim.AdamW(rest, fused=True)]


def cpu_time(optimizers: list[torch.optim.Optimizer]) -> float:
    started = time.process_time()
    for optimizer in optimizers:
        optimizer.step()
    return time.process_time() - started


if __name__ == "__main__":
    main()
