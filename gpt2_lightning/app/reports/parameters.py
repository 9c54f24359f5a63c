"""Parameters of a model on the terminal and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TextIO

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.inspection.parameters.tensors import (
    TensorSummary,
    cost,
    kv_cache_bytes_per_token,
    second_names,
)
from gpt2_lightning.inspection.parameters.tree import ModuleNode, module_tree, part_of
from gpt2_lightning.model import GPT2

_OF_SPREAD = ["mean", "std", "norm"]
_OF_CHANGE = ["norm", "change", "largest", "cosine"]
_LEAVE_OUT_FIRST = ("type", "mean", "std", "kind", "norm", "largest", "cosine")
"""Columns that are omitted on a narrow terminal, in this order."""
_UNLIMITED = 10_000
_CSV_SIZES = ["name", "shape", "dtype", "count", "share", "kind"]
_CSV_SPREAD = ["mean", "std", "norm", "not_finite"]
_CSV_CHANGE = ["relative_change", "largest_change", "cosine", "other_not_finite"]


def print_table(tensors: Sequence[TensorSummary], console: Console) -> None:
    """Print a row for each tensor, grouped by part of the model, with sums.

    Values are never truncated: columns that do not fit are omitted, and named below the table.
    """
    has_values, has_changes = any(one.statistics for one in tensors), any(one.change for one in tensors)
    columns = ["tensor", "shape", "type", "values", "share"]
    columns += [] if not has_values else _OF_CHANGE if has_changes else _OF_SPREAD
    columns.append("kind")
    whole = table = _table(tensors, columns)
    left_out = []
    for title in [title for title in _LEAVE_OUT_FIRST if title in columns]:
        if _width(table, console) <= console.width:
            break
        columns.remove(title)
        left_out.append(title)
        table = _table(tensors, columns)
    table.width = _width(table, console)  # a terminal that is still too narrow wraps the lines
    console.print(table, crop=False)
    if left_out:
        needed = _width(whole, console)
        text = f"left out: {', '.join(left_out)}; a terminal of {needed} columns shows all, and so does view=csv"
        console.print(text, highlight=False)


def print_tree(tensors: Sequence[TensorSummary], console: Console) -> None:
    """Print the tree of modules with their sums; equal blocks are printed once."""
    root = module_tree(tensors)
    tree = Tree(f"[bold]model[/]  {root.count:,}")
    _grow(tree, root, root.count)
    console.print(tree)


def print_summary(tensors: Sequence[TensorSummary], model: GPT2, console: Console) -> None:
    """Print totals, memory, FLOPs, and tensors with NaN or infinite values."""
    config, costs = model.config, cost(tensors, model.config)
    counts = {kind: sum(one.count for one in tensors if one.kind == kind) for kind in ("trained", "frozen", "buffer")}
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
        lines.insert(1, ("buffers", f"{counts['buffer']:,} values, which are not parameters"))
    lines += [("shared", f"{name} is {counted}") for name, counted in second_names(model).items()]
    grid = Table.grid(padding=(0, 2))
    for line in lines:
        grid.add_row(*line)
    console.print(grid, highlight=False)
    for one in tensors:
        counts_by_model = {"": _broken_here(one), " in the other": one.change.other_not_finite if one.change else 0}
        for where, broken in counts_by_model.items():
            if broken:
                text = f"{one.name}{where}: {broken:,} of {one.count:,} values are NaN or infinite"
                console.print(text, style="bold red", highlight=False)


def write_csv(tensors: Sequence[TensorSummary], file: TextIO) -> None:
    """Write a row for each tensor with full precision; unknown values are empty."""
    total = sum(one.count for one in tensors)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_CSV_SIZES, *_CSV_SPREAD, *_CSV_CHANGE])
    for one in tensors:
        shape = "x".join(map(str, one.shape))
        sizes = [one.name, shape, dtype_name(one.dtype), one.count, one.count / total, one.kind]
        spread = [""] * len(_CSV_SPREAD) if one.statistics is None else dataclasses.astuple(one.statistics)
        change = [""] * len(_CSV_CHANGE) if one.change is None else dataclasses.astuple(one.change)
        writer.writerow([*sizes, *spread, *change])


def _table(tensors: Sequence[TensorSummary], columns: Sequence[str]) -> Table:
    total = sum(one.count for one in tensors)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for title in columns:
        is_text = title in ("tensor", "shape", "type", "kind")
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True)

    def add_row(cells: dict[str, str], style: str | None) -> None:
        table.add_row(*(cells.get(title, "") for title in columns), style=style)

    for part, group in itertools.groupby(tensors, key=lambda one: part_of(one.name)):
        in_part = list(group)
        for one in in_part:
            add_row(_cells(one, total), "red" if _broken_here(one) else None)
        if len(in_part) > 1:
            add_row({"tensor": part} | _sizes(sum(one.count for one in in_part), total), "bold")
        table.add_section()
    add_row({"tensor": "total"} | _sizes(total, total), "bold")
    return table


def _width(table: Table, console: Console) -> int:
    """Width of the table in characters, without truncation."""
    return table.__rich_measure__(console, console.options.update_width(_UNLIMITED)).maximum


def _grow(tree: Tree, module: ModuleNode, total: int) -> None:
    for one in module.tensors:
        leaf = one.name.rpartition(".")[2]
        tree.add(f"{leaf}  [dim]{_shape(one)}  {dtype_name(one.dtype)}  {one.kind}[/]  {one.count:,}")
    for child in module.children:
        times = f"{child.times} × {child.count // child.times:,} = " if child.times > 1 else ""
        share = f"{child.count / total:.1%}"
        _grow(tree.add(f"[bold]{child.name}[/]  {times}{child.count:,}  [dim]{share}[/]"), child, total)


def _cells(one: TensorSummary, total: int) -> dict[str, str]:
    """Cells by column title, without unknown values."""
    cells = {"tensor": one.name, "shape": _shape(one), "type": dtype_name(one.dtype), "kind": one.kind}
    cells |= _sizes(one.count, total)
    if one.statistics is not None:
        cells |= {name: _number(getattr(one.statistics, name)) for name in _OF_SPREAD}
    if one.change is not None:
        cells |= {"change": _number(one.change.relative), "largest": _number(one.change.largest)}
        cells["cosine"] = "none" if math.isnan(one.change.cosine) else f"{one.change.cosine:.6f}"
    return cells


def _sizes(count: int, total: int) -> dict[str, str]:
    return {"values": f"{count:,}", "share": f"{count / total:.2%}"}


def _broken_here(one: TensorSummary) -> int:
    """Number of NaN or infinite values."""
    return one.statistics.not_finite if one.statistics else 0


def _shape(one: TensorSummary) -> str:
    return " × ".join(f"{size:,}" for size in one.shape)


def _cache(model: GPT2, dtype: torch.dtype) -> str:
    per_token = kv_cache_bytes_per_token(model.config, dtype)
    full = _bytes(per_token * model.config.block_size)
    return f"{per_token:,} bytes a token in {dtype_name(dtype)} ({full} for the whole context)"


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _flops(count: int) -> str:
    return f"{count / 1e6:,.1f} MFLOPs"


def _number(value: float) -> str:
    return f"{value:.4g}"
