"""Freezing of parameters, and the count of trainable ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.gpt2 import GPT2

Freeze = Literal["none", "all_but_head", "first_n_blocks", "last_n_blocks"]


def freeze(model: GPT2 | Classifier, how: Freeze, n: int = 1) -> None:
    """Make a part of a model trainable and freeze the rest, whatever was trainable before.

    - `none`: everything is trainable.
    - `all_but_head`: only the head is trainable.
    - `first_n_blocks`: the embeddings and the first n blocks are frozen.
    - `last_n_blocks`: the last n blocks, the final norm and the head are trainable. With n of L blocks, this equals
      `first_n_blocks` with L - n.

    The head is a classifier's `score`, else the language model's `lm_head`. The last two freeze a head that shares the
    embedding's weight: training the embedding would require a backward pass through all blocks. `all_but_head` trains
    both.

    Raises:
        ValueError: if there are fewer than n blocks, or `how` is not one of these.
    """
    network, head = (model.transformer, model.score) if isinstance(model, Classifier) else (model, model.lm_head)
    blocks = list(network.h)
    if not 0 <= n <= len(blocks):
        raise ValueError(f"n: {n} is out of range, the model has {len(blocks)} blocks")
    trained: dict[str, list[nn.Module]] = {
        "none": [model],
        "all_but_head": [head],
        "first_n_blocks": [*blocks[n:], network.ln_f, head],
        "last_n_blocks": [*blocks[len(blocks) - n :], network.ln_f, head],
    }
    if how not in trained:
        raise ValueError(f"freeze: '{how}' is not one of {', '.join(trained)}")
    model.requires_grad_(False)
    for module in trained[how]:
        module.requires_grad_(True)
    if how in ("first_n_blocks", "last_n_blocks"):
        network.wte.requires_grad_(False)
    if isinstance(model, Classifier) and not network.config.tied_head:
        network.lm_head.requires_grad_(False)


@dataclass(frozen=True)
class Row:
    """Parameter counts of one part of a model."""

    module: str
    trained: int
    frozen: int


def parameter_table(model: nn.Module) -> list[Row]:
    """Trainable and frozen parameters in the order of computation; consecutive equal blocks are one row.

    A weight that two modules share is counted in the first.
    """
    seen: set[int] = set()
    rows = []
    for name, part in _parts(model, ""):
        new = {id(parameter): parameter for parameter in part.parameters() if id(parameter) not in seen}
        seen |= new.keys()
        trained = sum(parameter.numel() for parameter in new.values() if parameter.requires_grad)
        frozen = sum(parameter.numel() for parameter in new.values()) - trained
        if new:
            rows.append(Row(name, trained, frozen))
    return [_joined(list(alike)) for _, alike in itertools.groupby(rows, key=_kind)]


def count_trainable(model: nn.Module) -> int:
    """Number of trainable parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, GPT2 | nn.ModuleList):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _kind(row: Row) -> tuple[str, int, int]:
    return row.module.rstrip("0123456789"), row.trained, row.frozen


def _joined(rows: list[Row]) -> Row:
    first, last = rows[0], rows[-1]
    name = first.module if first is last else f"{first.module} to {last.module}"
    return Row(name, sum(row.trained for row in rows), sum(row.frozen for row in rows))
