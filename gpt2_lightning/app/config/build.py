"""Construction of objects from a checked configuration.

The settings are plain containers, which are passed to their `_target_`. Hydra's `instantiate` would do the same, but
wrap user errors raised by a constructor in another exception.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import hydra.utils

from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from gpt2_lightning.model import GPT2Config


def make(node: dict[str, Any], **supplied: Any) -> Any:
    """Call the `_target_` of a node with its settings, and with those supplied values that are parameters of it.

    Args:
        node: settings with a `_target_`, checked by preflight.
        supplied: values by the names in `preflight.FROM_BUILD`.
    """
    target = hydra.utils.get_object(node["_target_"])
    parameters = inspect.signature(target).parameters
    settings = {name: _made(value) for name, value in node.items() if name != "_target_"}
    return target(**settings, **{name: value for name, value in supplied.items() if name in parameters})


def _made(value: Any) -> Any:
    """Return a setting, with nested nodes replaced by the objects made from them."""
    if not isinstance(value, dict):
        return value
    return make(value) if "_target_" in value else {name: _made(child) for name, child in value.items()}


def make_all(nodes: dict[str, dict[str, Any] | None], **supplied: Any) -> list[Any]:
    """Make the objects of a group with several members; members set to null are omitted."""
    return [make(node, **supplied) for node in nodes.values() if node is not None]


def model_config(node: dict[str, Any], vocab_size: int) -> GPT2Config:
    """Make the model's configuration, with the tokenizer's vocabulary size.

    Raises:
        UserError: if the configuration has a different `vocab_size`.
    """
    stated = node.get("vocab_size", vocab_size)
    if stated != vocab_size:
        raise UserError(
            f"model.vocab_size is {stated}, but the tokenizer has {vocab_size} tokens; "
            "leave model.vocab_size out, it follows the tokenizer"
        )
    return make({**node, "vocab_size": vocab_size})
