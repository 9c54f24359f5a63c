"""Conversion between Hugging Face's GPT2Config and `GPT2Config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config

MODEL_TYPE = "gpt2"
"""Value of `model_type` for GPT-2."""

_FIELDS = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "embd_pdrop": "embd_pdrop",
    "attn_pdrop": "attn_pdrop",
    "resid_pdrop": "resid_pdrop",
    "layer_norm_epsilon": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
    "tied_head": "tie_word_embeddings",
}
_LEFT_OUT = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
"""Hugging Face's defaults where they differ from those of `GPT2Config`."""

_GELU_OF = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "exact"}
"""Value of `gelu` for each of Hugging Face's `activation_function`s."""
_NAME_OF = {"tanh": "gelu_new", "exact": "gelu"}
_SAME_ARITHMETIC: dict[str, tuple[Any, ...]] = {
    "activation_function": (*_GELU_OF,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""Hugging Face's fields that change the arithmetic, with the values that are supported."""
_POSITIONS = ("learned", "sinusoidal")
"""Positional encodings that GPT-2 can express; sinusoidal ones as a table."""
_LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model")
"""Classes with the weights of a language model. GPT2Model has no head; it is tied."""


def config_from_huggingface(fields: Mapping[str, Any]) -> GPT2Config:
    """Convert the fields of a Hugging Face GPT2Config.

    Raises:
        ValueError: if the architecture is not GPT-2, or with every field whose value is unsupported or out of range.
    """
    model_type, classes = fields.get("model_type", MODEL_TYPE), fields.get("architectures") or []
    if model_type != MODEL_TYPE:
        named = f", {' and '.join(map(str, classes))}" if classes else ""
        raise ValueError(f"model_type: the architecture is {model_type!r}{named}, and not {MODEL_TYPE!r}")
    faults = [
        f"architectures: {name} has another head than a language model's, which is not read"
        for name in classes
        if name not in _LANGUAGE_MODELS
    ]
    faults += [
        f"{field}: {fields[field]!r} is not supported, only {' and '.join(map(repr, allowed))}"
        for field, allowed in _SAME_ARITHMETIC.items()
        if field in fields and fields[field] not in allowed
    ]
    inner, width = fields.get("n_inner"), fields.get("n_embd", GPT2Config.n_embd)
    if inner is not None and inner != 4 * width:
        faults.append(f"n_inner: {inner!r} is not supported, only 4 * n_embd = {4 * width}")
    if fields.get("quantization_config"):
        faults.append("quantization_config: quantized weights are not read")
    if faults:
        raise ValueError("\n".join(faults))
    gelu = _GELU_OF[fields.get("activation_function", _NAME_OF["tanh"])]
    values = {ours: fields[theirs] for ours, theirs in _FIELDS.items() if theirs in fields}
    return GPT2Config(**_LEFT_OUT | values, gelu=gelu)


def activation_function(config: GPT2Config) -> str:
    """Return Hugging Face's name of the activation function."""
    return _NAME_OF[config.gelu]


def config_to_huggingface(config: GPT2Config) -> dict[str, Any]:
    """Return the keyword arguments for Hugging Face's GPT2Config.

    Raises:
        UserError: if the architecture is not that of GPT-2.
    """
    if config.positions not in _POSITIONS:
        raise UserError(
            f"positions: transformers' GPT-2 has no {config.positions} positions, only {' and '.join(_POSITIONS)}, so "
            "the model has no equivalent there; keep it in checkpoints of this program"
        )
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    return {**fields, "n_ctx": config.block_size, "activation_function": activation_function(config)}
