"""Possible differences between the networks, and their temporary correction in the transformers model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.evaluation.parity.weights import compare_weights
from gpt2_lightning.huggingface.weights import to_huggingface
from gpt2_lightning.model import GPT2

Change = tuple[Any, str, Any]
"""An object, the name of an attribute, and its correct value."""
Changes = Callable[[TheirModel], list[Change]]
"""Function that returns the changes of their network, or of a copy."""
_NAMES = {"tanh": ("gelu_new", "gelu_pytorch_tanh"), "exact": ("gelu",)}
"""Names in transformers of our kinds of GELU."""
_SHOWN = {"tanh": "the tanh approximation of GELU", "exact": "the exact GELU"}
DTYPE = "dtype"


@dataclass(frozen=True)
class Fix:
    """A difference between their network and ours, with its correction."""

    name: str
    sentence: str
    """Description of the difference, with both values."""
    changes: Changes


@contextlib.contextmanager
def altered(model: TheirModel, alterations: Iterable[Changes]) -> Iterator[None]:
    """Context manager that applies alterations to their network in order, and reverts them at exit."""
    before: list[Change] = []
    try:
        for changes in alterations:
            for owner, name, value in changes(model):
                before.append((owner, name, getattr(owner, name)))
                setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def corrected(model: TheirModel, fixes: Sequence[Fix]) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that applies fixes to their network."""
    return altered(model, [fix.changes for fix in fixes])


def fixes_for(ours: GPT2, theirs: TheirModel) -> list[Fix]:
    """Return fixes for all differences between both networks, the most plausible cause of different text first."""
    config, their_config = ours.config, theirs.config
    fixes = []
    if theirs.training:
        rates = ", ".join(
            f"{name} {getattr(their_config, name)}" for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")
        )
        fixes.append(Fix("dropout", f"dropout is left on there: the model is in training mode ({rates})", _evaluation))
    if their_config.activation_function not in _NAMES[config.gelu]:
        found, ours_called = their_config.activation_function, _SHOWN[config.gelu]
        what = next((_SHOWN[kind] for kind, names in _NAMES.items() if found in names), f"{found!r}")
        fixes.append(Fix("activation", f"theirs computes {what}, and ours {ours_called}", _activation(config.gelu)))
    if their_config.layer_norm_epsilon != config.layer_norm_epsilon:
        pair = f"{config.layer_norm_epsilon:g} here and {their_config.layer_norm_epsilon:g} there"
        fixes.append(
            Fix("layer_norm_epsilon", f"the epsilon of the layer norms is {pair}", _epsilon(config.layer_norm_epsilon))
        )
    if their_config.n_head != config.n_head:
        heads = f"attention has {config.n_head} heads here and {their_config.n_head} there"
        fixes.append(Fix("n_head", heads, _heads(config.n_head, config.head_size)))
    if not their_config.scale_attn_weights or their_config.scale_attn_by_inverse_layer_idx:
        flags = ", ".join(
            f"{n}={getattr(their_config, n)}" for n in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx")
        )
        fixes.append(
            Fix("attention scale", f"their attention scores are scaled otherwise: {flags}", _scale(config.head_size))
        )
    return fixes + _weight_fixes(ours, theirs)


def _weight_fixes(ours: GPT2, theirs: TheirModel) -> list[Fix]:
    weights = compare_weights(ours, theirs)
    right = to_huggingface(ours)
    fixes = []
    if names := [tensor.name for tensor in weights.altered]:
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        sentence = f"{len(names)} of {weights.count} tensors have other values there: {listed}"
        fixes.append(Fix("weights", sentence, _values({name: right[name] for name in names})))
    if weights.our_dtype != weights.their_dtype:
        rounded = {tensor.name: right[tensor.name] for tensor in weights.differing if tensor.is_rounding}
        sentence = f"the dtype is {weights.our_dtype} here and {weights.their_dtype} there"
        fixes.append(Fix(DTYPE, sentence, _dtype(theirs, ours.wte.weight.dtype, rounded)))
    return fixes


def _evaluation(model: TheirModel) -> list[Change]:
    return [(module, "training", False) for module in model.modules()]


def _activation(kind: str) -> Changes:
    gelu = nn.GELU(approximate="none" if kind == "exact" else kind)
    return lambda model: [(block.mlp, "act", gelu) for block in model.transformer.h]


def _epsilon(value: float) -> Changes:
    return lambda model: [(module, "eps", value) for module in model.modules() if isinstance(module, nn.LayerNorm)]


def _heads(count: int, size: int) -> Changes:
    sizes = {"num_heads": count, "head_dim": size, "scaling": size**-0.5}
    return lambda model: [(block.attn, name, value) for block in model.transformer.h for name, value in sizes.items()]


def _scale(size: int) -> Changes:
    return lambda model: [(block.attn, "scaling", size**-0.5) for block in model.transformer.h]


def _values(right: dict[str, Tensor]) -> Changes:
    """Return the changes that set tensors to `right`, in the dtype of the model."""

    def changes(model: TheirModel) -> list[Change]:
        parameters = dict(model.named_parameters())
        return [(parameters[name], "data", tensor.to(parameters[name])) for name, tensor in right.items()]

    return changes


def _dtype(theirs: TheirModel, right: torch.dtype, rounded: dict[str, Tensor]) -> Changes:
    """Return the changes that set our dtype and unrounded values; on a copy, which has a chosen dtype, only values."""

    def changes(model: TheirModel) -> list[Change]:
        dtype = right if model is theirs else model.dtype
        return [
            (parameter, "data", rounded.get(name, parameter.data).to(parameter.device, dtype))
            for name, parameter in model.named_parameters()
        ]

    return changes
