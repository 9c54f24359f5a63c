"""Objects from a checked configuration: the only place that instantiates."""

from __future__ import annotations

import inspect
from typing import Any

import hydra.utils

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config


def make(node: dict[str, Any], **supplied: Any) -> Any:
    """What a node's `_target_` makes of its settings, and of those supplied values that it has parameters for.

    Args:
        node: checked by preflight.
        supplied: values under the names in `preflight.FROM_BUILD`.
    """
    parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    wanted = {name: value for name, value in supplied.items() if name in parameters}
    return hydra.utils.instantiate(node, _convert_="all", **wanted)


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
