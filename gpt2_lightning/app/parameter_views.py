"""Figures of parameters on the terminal and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TextIO

import torch
from rich import box, get_console
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from gpt2_lightning.huggingface.weights import name_of
from gpt2_lightning.inspection.module_sums import ModuleSum, part_of, sum_modules
from gpt2_lightning.inspection.parameters import (
    TensorFigures,
    cost,
    kv_cache_bytes_per_token,
    second_names,
)
from gpt2_lightning.model import GPT2

_COLUMNS_IN_FILES = 160
"""Width of what is not written to a terminal, which nobody narrows."""
_CSV_SIZES = ["name", "shape", "dtype", "count", "share", "kind"]
_CSV_SPREAD = ["mean", "std", "norm", "not_finite"]
_CSV_CHANGE = ["relative_change", "largest_change", "cosine"]


def print_table(figures: Sequence[TensorFigures]) -> None:
    """A row for each tensor, the parts of the model apart, with their sums."""
    total = sum(one.count for one in figures)
    has_values = any(one.spread for one in figures)
    has_changes = any(one.change for one in figures)
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("tensor", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("type")
    for title in ("values", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ["mean", "std", "norm"] if has_values and not has_changes else []:
        table.add_column(title, justify="right", no_wrap=True)
    for title in ["norm", "change", "largest", "cosine"] if has_changes else []:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for part, group in itertools.groupby(figures, key=lambda one: part_of(one.name)):
        tensors = list(group)
        for one in tensors:
            sizes = [one.name, _shape(one), name_of(one.dtype), *_sizes(one.count, total)]
            values = _values(one, has_changes) if has_values else []
            table.add_row(*sizes, *values, one.kind, style="red" if _is_broken(one) else None)
        if len(tensors) > 1:
            table.add_row(part, "", "", *_sizes(sum(one.count for one in tensors), total), style="bold")
        table.add_section()
    table.add_row("total", "", "", *_sizes(total, total), style="bold")
    _console().print(table)


def print_tree(figures: Sequence[TensorFigures]) -> None:
    """Modules inside modules, with their sums; alike blocks are drawn once."""
    root = sum_modules(figures)
    tree = Tree(f"[bold]model[/]  {root.count:,}")
    _grow(tree, root, root.count)
    _console().print(tree)


def print_summary(figures: Sequence[TensorFigures], model: GPT2) -> None:
    """Totals, memory and FLOPs, and what is wrong with the values."""
    config, costs = model.config, cost(figures, model.config)
    counts = {kind: sum(one.count for one in figures if one.kind == kind) for kind in ("trained", "frozen", "buffer")}
    lines = [
        ("parameters", f"{counts['trained'] + counts['frozen']:,}: {counts['trained']:,} trained, "
                       f"{counts['frozen']:,} frozen"),
        ("memory", f"{_bytes(costs.weights)} of weights as they are; to train in float32 {_bytes(costs.gradients)} of "
                   f"gradients and {_bytes(costs.optimizer)} of AdamW's state; without activations"),
        ("work", f"{_flops(costs.training_flops)} to train on a token at full context, "
                 f"{_flops(costs.forward_flops)} to read one"),
        ("KV cache", " and ".join(_cache(model, dtype) for dtype in (torch.float32, torch.bfloat16))),
        ("shape", f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, context "
                  f"{config.block_size:,}, vocabulary {config.vocab_size:,}"),
    ]  # fmt: skip
    if counts["buffer"]:
        lines.insert(1, ("buffers", f"{counts['buffer']:,} values, which are no parameters"))
    lines += [("shared", f"{name} is {counted}") for name, counted in second_names(model).items()]
    grid = Table.grid(padding=(0, 2))
    for line in lines:
        grid.add_row(*line)
    _console().print(grid, highlight=False)
    for one in filter(_is_broken, figures):
        assert one.spread is not None
        broken = f"{one.name}: {one.spread.not_finite:,} of {one.count:,} values are NaN or infinite"
        _console().print(broken, style="bold red", highlight=False)


def write_csv(figures: Sequence[TensorFigures], file: TextIO) -> None:
    """A row for each tensor, with every figure in full; what is not known is empty."""
    total = sum(one.count for one in figures)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_CSV_SIZES, *_CSV_SPREAD, *_CSV_CHANGE])
    for one in figures:
        shape = "x".join(map(str, one.shape))
        sizes = [one.name, shape, name_of(one.dtype), one.count, one.count / total, one.kind]
        spread = [""] * len(_CSV_SPREAD) if one.spread is None else dataclasses.astuple(one.spread)
        change = [""] * len(_CSV_CHANGE) if one.change is None else dataclasses.astuple(one.change)
        writer.writerow([*sizes, *spread, *change])


def _grow(tree: Tree, module: ModuleSum, total: int) -> None:
    for one in module.tensors:
        leaf = one.name.rpartition(".")[2]
        tree.add(f"{leaf}  [dim]{_shape(one)}  {name_of(one.dtype)}  {one.kind}[/]  {one.count:,}")
    for child in module.children:
        times = f"{child.times} × {child.count // child.times:,} = " if child.times > 1 else ""
        share = f"{child.count / total:.1%}"
        _grow(tree.add(f"[bold]{child.name}[/]  {times}{child.count:,}  [dim]{share}[/]"), child, total)


def _sizes(count: int, total: int) -> list[str]:
    return [f"{count:,}", f"{count / total:.2%}"]


def _values(one: TensorFigures, has_changes: bool) -> list[str]:
    assert one.spread is not None
    if not has_changes:
        return [*map(_number, (one.spread.mean, one.spread.std, one.spread.norm))]
    if one.change is None:
        return [_number(one.spread.norm), "", "", ""]
    cosine = "none" if math.isnan(one.change.cosine) else f"{one.change.cosine:.6f}"
    return [*map(_number, (one.spread.norm, one.change.relative, one.change.largest)), cosine]


def _is_broken(one: TensorFigures) -> bool:
    return one.spread is not None and one.spread.not_finite > 0


def _shape(one: TensorFigures) -> str:
    return " × ".join(f"{size:,}" for size in one.shape)


def _cache(model: GPT2, dtype: torch.dtype) -> str:
    per_token = kv_cache_bytes_per_token(model.config, dtype)
    full = _bytes(per_token * model.config.block_size)
    return f"{per_token:,} bytes a token in {name_of(dtype)} ({full} for the whole context)"


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _flops(count: int) -> str:
    return f"{count / 1e6:,.1f} MFLOPs"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _console() -> Console:
    console = get_console()
    return console if console.is_terminal else Console(width=max(console.width, _COLUMNS_IN_FILES))
