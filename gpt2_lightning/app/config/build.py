"""Objects from a checked configuration: the only place that makes them.

The settings are plain containers by now, so a target is called with them. Hydra's own `instantiate` would do the same,
and wrap a user's mistake that shows only then in an exception of its own.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import hydra.utils

from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from gpt2_lightning.model import GPT2Config


def make(node: dict[str, Any], **supplied: Any) -> Any:
    """What a node's `_target_` makes of its settings, and of those supplied values that it has parameters for.

    Args:
        node: checked by preflight.
        supplied: values under the names in `preflight.FROM_BUILD`.
    """
    target = hydra.utils.get_object(node["_target_"])
    parameters = inspect.signature(target).parameters
    settings = {name: _made(value) for name, value in node.items() if name != "_target_"}
    return target(**settings, **{name: value for name, value in supplied.items() if name in parameters})


def _made(value: Any) -> Any:
    """A setting, or what a group of settings inside it makes."""
    if not isinstance(value, dict):
        return value
    return make(value) if "_target_" in value else {name: _made(child) for name, child in value.items()}


def make_all(nodes: dict[str, dict[str, Any] | None], **supplied: Any) -> list[Any]:
    """The objects of a group with several members; those set to null are left out."""
    return [make(node, **supplied) for node in nodes.values() if node is not None]


def model_config(node: dict[str, Any], vocab_size: int) -> GPT2Config:
    """The architecture, with the vocabulary of the tokenizer.

    Raises:
        UserError: if the configuration states another size.
    """
    stated = node.get("vocab_size", vocab_size)
    if stated != vocab_size:
        raise UserError(
            f"model.vocab_size is {stated}, but the tokenizer has {vocab_size} tokens; "
            "leave model.vocab_size out, it follows the tokenizer"
        )
    return make({**node, "vocab_size": vocab_size})
