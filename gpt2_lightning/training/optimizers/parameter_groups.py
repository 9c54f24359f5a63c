"""Parameter groups of an optimizer."""

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
"""Settings of some parameters that differ. Keys are regular expressions, of which the first that matches a part of the
parameter's name applies; values are a factor of the learning rate, the weight decay of matrices, or both."""
NONE: Exceptions = MappingProxyType({})


def parameter_groups(model: nn.Module, weight_decay: float, exceptions: Exceptions = NONE) -> list[dict[str, Any]]:
    """Group the trainable parameters: matrices, with weight decay, and vectors (biases, norms), without.

    Every parameter is in exactly one group; a tied weight, which has two names, is one parameter. Each exception adds
    two groups.

    Raises:
        UserError: if an exception matches no parameter.
    """
    return grouped(model, {"matrix": {"weight_decay": weight_decay}, "vector": {}}, matrix_or_vector, exceptions)


def matrix_or_vector(parameter: Tensor) -> str:
    return "matrix" if parameter.dim() >= 2 else "vector"


def matrices_in_blocks(model: nn.Module) -> dict[Tensor, int]:
    """Return the matrices of the blocks, and the number stacked in each: 3 for queries, keys and values, else 1."""
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
    """Build one group per kind, then one per kind for each exception; groups may be empty.

    Their number therefore does not depend on the values of the settings, so that a resumed run has the same groups.

    Args:
        model: model whose trainable parameters are grouped.
        kinds: settings of the groups by kind; `vector` has no weight decay.
        kind: function that returns the kind of a parameter.
        exceptions: factors of `lr_scale`, which is 1 unless the kind sets it, and values of `weight_decay`.

    Raises:
        UserError: if an exception matches no parameter.
    """
    _require_found(exceptions, [name for name, _ in model.named_parameters()])
    groups = {}
    for pattern in ("", *exceptions):  # "" stands for no exception; patterns are not empty
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
