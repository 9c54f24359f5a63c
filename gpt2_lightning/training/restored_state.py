"""Checks of a checkpoint against the objects of a run before they are restored, and its conversion to another number of
processes and micro-batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gpt2_lightning.checkpoints.content import WEIGHT_AVERAGE
from gpt2_lightning.checkpoints.training_state import (
    is_count,
    refuse,
    require_training_state,
    structure_faults,
    tensor_faults,
)
from gpt2_lightning.training import distributed, random_state, weight_average

log = logging.getLogger(__name__)

_PACKAGE = __name__.partition(".")[0]
_PARTS = {"state": dict, "param_groups": list}
_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_STATE_OF = {
    "adamw": _ADAM,
    "AdamW": _ADAM,
    "muon": {"momentum_buffer"},
    "normuon": {"momentum_buffer", "row_exp_avg_sq"},
}
"""Entries of a parameter's state by the algorithm of its group, or else the class of the optimizer."""


def require_fit(checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
    """Check the training state of a checkpoint, except that of the optimizer, before anything of it is restored.

    Args:
        checkpoint: content of the checkpoint, with names of the weights as in the LightningModule.
        trainer: Trainer with the objects of the run.

    Raises:
        UserError: with every fault.
    """
    path = trainer.ckpt_path
    require_training_state(checkpoint, path)
    own: dict[str, Any] = {"loops": {"fit_loop": trainer.fit_loop.state_dict()}}
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by the Trainer's data connector
    if data is not None:
        own[type(data).__qualname__] = data.state_dict()
    plugin = trainer.precision_plugin
    if type(plugin).__qualname__ in checkpoint:
        own[type(plugin).__qualname__] = plugin.state_dict()
    faults = [fault for name, state in own.items() for fault in structure_faults(checkpoint.get(name), state, name)]
    saved_data = checkpoint.get(type(data).__qualname__)
    if isinstance(saved_data, dict) and not all(map(_is_pair, saved_data.get("skipped") or [])):
        faults.append(f"{type(data).__qualname__}.skipped: it must be pairs of a sample and a count")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # as above
        key = callback.state_key
        if key in checkpoint["callbacks"] and type(callback).__module__.partition(".")[0] == _PACKAGE:
            faults += structure_faults(checkpoint["callbacks"][key], callback.state_dict(), f"callbacks.{key}")
    faults += _weight_faults(checkpoint["state_dict"], trainer.lightning_module)
    if (average := checkpoint.get(WEIGHT_AVERAGE)) is not None:
        faults += weight_average.faults(average, trainer.lightning_module.state_dict(keep_vars=True))
    faults += [f for loss in checkpoint["train_losses"] for f in tensor_faults(loss, (), "train_losses")]
    faults += [fault for state in checkpoint["random_states"] for fault in _random_state_faults(state)]
    if len(checkpoint["optimizer_states"]) != 1:
        faults.append(f"optimizer_states: there are {len(checkpoint['optimizer_states'])}, and 1 is needed")
    refuse(faults, path)


def require_own_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Check a saved state of an optimizer, as a hook that torch calls before it loads the state.

    Fused kernels access memory by the shape of the parameter, without comparing it with that of the state.

    Raises:
        UserError: with every fault.
    """
    refuse(list(_optimizer_faults(optimizer, saved)), "the checkpoint")


def _optimizer_faults(optimizer: torch.optim.Optimizer, saved: Any) -> Iterator[str]:
    name = "optimizer_states"
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), kind) for key, kind in _PARTS.items()):
        yield f"{name}: it has no dict 'state' and list 'param_groups'"
        return
    groups, found = optimizer.param_groups, saved["param_groups"]
    sizes = [len(group["params"]) for group in groups]
    numbers = [group["params"] if _has_numbers(group) else None for group in found]
    if [None if ids is None else len(ids) for ids in numbers] != sizes:
        yield f"{name}.param_groups: they do not hold {sizes} parameters"
        return
    of_number: dict[int, tuple[dict[str, Any], Tensor]] = {}
    for group, ids in zip(groups, numbers, strict=True):
        of_number |= {number: (group, p) for number, p in zip(ids or [], group["params"], strict=True)}
    if len(of_number) != sum(sizes):
        yield f"{name}.param_groups: they hold a parameter twice"
        return
    for number, state in saved["state"].items():
        if number not in of_number:
            yield f"{name}.state: {number!r} is the number of no parameter"
            continue
        group, parameter = of_number[number]
        yield from _parameter_faults(state, group, parameter, optimizer, f"{name}.state.{number}")


def _has_numbers(group: Any) -> bool:
    return (
        isinstance(group, dict)
        and isinstance(group.get("params"), list)
        and all(type(number) is int for number in group["params"])
    )


def _parameter_faults(
    state: Any, group: dict[str, Any], parameter: Tensor, optimizer: torch.optim.Optimizer, name: str
) -> Iterator[str]:
    if not isinstance(state, dict):
        yield f"{name}: it is no dict"
        return
    names = _STATE_OF.get(group.get("algorithm", type(optimizer).__name__))
    if names is not None and state and state.keys() != names:
        yield f"{name}: it has {sorted(map(str, state))}, and {sorted(names)} is needed"
    elif names is not None or group.get("fused"):
        shapes = {"step": (), "row_exp_avg_sq": (*parameter.shape[:1], 1)}
        for key, value in state.items():
            yield from tensor_faults(value, shapes.get(key, parameter.shape), f"{name}.{key}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_count, value))


def _weight_faults(found: dict[Any, Any], module: L.LightningModule) -> Iterator[str]:
    own = module.state_dict(keep_vars=True)
    if module.strict_loading:
        yield from (f"state_dict: {name} is missing" for name in own if name not in found)
        yield from (f"state_dict: {name} is no tensor of this model" for name in found if name not in own)
    for name, value in found.items():
        if name in own:
            yield from tensor_faults(value, own[name].shape, f"state_dict: {name}")


def _random_state_faults(state: Any) -> Iterator[str]:
    try:
        torch.Generator().set_state(state["cpu"])
    except (KeyError, RuntimeError, TypeError) as error:
        yield f"random_states: {error!r} for the state of the CPU's generator"


def gather_interleaved(values: list[Tensor]) -> list[Tensor]:
    """Gather the values of the micro-batches of all ranks, in the order of the samples."""
    by_rank = distributed.all_gather([value.cpu() for value in values])
    return [value for of_ranks in zip(*by_rank, strict=True) for value in of_ranks]


def own_share(values: list[Tensor]) -> list[Tensor]:
    """Return this rank's part of values in the order of the samples; the inverse of `gather_interleaved`."""
    return values[distributed.rank() :: distributed.world_size()]


def own_random_state(states: list[random_state.State]) -> random_state.State | None:
    """Return the random state of this rank; None if the run that saved the states had fewer ranks."""
    if len(states) != distributed.world_size():
        log.info(
            "the checkpoint is of %d processes and this run has %d: dropout goes on with other numbers",
            len(states),
            distributed.world_size(),
        )
    return states[distributed.rank()] if distributed.rank() < len(states) else None


def convert_batch_counts(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Convert Lightning's counts of micro-batches to another number of micro-batches per step."""
    before = checkpoint["accumulate"]
    for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            for name, count in counts.items():  # a count may lag by one at the end of a step
                counts[name] = count + math.ceil(count / before) * (accumulate - before)
