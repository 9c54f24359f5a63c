"""Which parameters share their settings in an optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from gpt2_lightning.errors import UserError
from gpt2_lightning.model.gpt2 import Block
from gpt2_lightning.settings import NonNegativeFloat, RegularExpression

Exceptions = Mapping[
    Annotated[str, RegularExpression()], Mapping[Literal["lr_scale", "weight_decay"], NonNegativeFloat]
]
"""Other settings for some parameters. The keys are regular expressions, of which the first that is found in a name
counts; the values are a factor for the learning rate, the decay of matrices, or both."""
NONE: Exceptions = MappingProxyType({})


def parameter_groups(model: nn.Module, weight_decay: float, exceptions: Exceptions = NONE) -> list[dict[str, Any]]:
    """The trained parameters in two groups: matrices, which decay, and vectors (biases, norms), which do not.

    Every parameter lands in exactly one; a tied weight, which has two names, is one parameter. Exceptions have two more
    groups each.

    Raises:
        UserError: if an exception is for no parameter.
    """
    return grouped(model, {"matrix": {"weight_decay": weight_decay}, "vector": {}}, matrix_or_vector, exceptions)


def matrix_or_vector(parameter: Tensor) -> str:
    return "matrix" if parameter.dim() >= 2 else "vector"


def matrices_in_blocks(model: nn.Module) -> dict[Tensor, int]:
    """The matrices of the transformer's blocks, and how many lie in each: three in that of queries, keys and values."""
    found: dict[Tensor, int] = {}
    for block in model.modules():
        if isinstance(block, Block):
            found |= {parameter: 1 for parameter in block.parameters() if parameter.dim() == 2}
            qkv = block.attn.c_attn
            found |= {p: 3 for p in qkv.parameters() if p.dim() == 2 and len(p) == qkv.out_features}
    return found


def grouped(
    model: nn.Module, kinds: Mapping[str, dict[str, Any]], kind: Callable[[Tensor], str], exceptions: Exceptions
) -> list[dict[str, Any]]:
    """A group of each kind, then one of each kind for each exception, some of which may be empty.

    So a resumed run has the same groups, whatever the values of the settings.

    Args:
        model: its trained parameters are grouped.
        kinds: settings of the groups by name; those of `vector` never decay.
        kind: the name of a parameter's.
        exceptions: change `lr_scale`, which is 1 unless the kind says otherwise, and `weight_decay`.

    Raises:
        UserError: if an exception is for no parameter.
    """
    _require_found(exceptions, [name for name, _ in model.named_parameters()])
    groups = {}
    for pattern in ("", *exceptions):  # none is empty
        other = exceptions.get(pattern, {})
        for name, settings in kinds.items():
            group = {"params": [], "lr_scale": 1.0, "weight_decay": 0.0, **settings}
            group["lr_scale"] *= other.get("lr_scale", 1.0)
            if name != "vector":
                group["weight_decay"] = other.get("weight_decay", group["weight_decay"])
            groups[pattern, name] = group
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = next((pattern for pattern in exceptions if re.search(pattern, name)), "")
            groups[pattern, kind(parameter)]["params"].append(parameter)
    return list(groups.values())


def _require_found(exceptions: Exceptions, names: list[str]) -> None:
    for pattern in exceptions:
        if not any(re.search(pattern, name) for name in names):
            shown = ", ".join(dict.fromkeys(re.sub(r"\bh\.\d+\.", "h.0.", name) for name in names))
            raise UserError(f"optimizer.groups: '{pattern}' is found in no parameter's name; the names are {shown}")
