"""Weights of Hugging Face's GPT2LMHeadModel to ours and back, in memory.

Theirs are ours under the prefix `transformer.`, but the four projections of a block are Conv1D modules, which hold the
transpose of a Linear's weight. Checkpoints on their hub leave the prefix out and carry the causal mask as `attn.bias`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, GPT2Config

_PREFIX = "transformer."
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
_MASK = re.compile(r"\.attn\.(bias|masked_bias)$")

_CONFIG_FIELDS = {
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


_SAME_ARITHMETIC: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""Fields of theirs that change the arithmetic, with the values that this GPT-2 has."""


def from_huggingface(weights: Mapping[str, Tensor], config: GPT2Config) -> GPT2:
    """A model that holds copies of a GPT2LMHeadModel's weights.

    Args:
        weights: its state dict, with or without the `transformer.` prefix, mask buffers and the tied head.
        config: the architecture, see `config_from_huggingface`.

    Raises:
        ValueError: listing every tensor that is missing, left over or of another shape.
    """
    model = GPT2(config)
    ours = model.state_dict()
    found = {
        key: tensor.t() if _CONV1D.search(key) and tensor.dim() == 2 else tensor
        for key, tensor in ((name.removeprefix(_PREFIX), tensor) for name, tensor in weights.items())
        if not _MASK.search(key)
    }
    if config.tied_head and "wte.weight" in found:
        found.setdefault("lm_head.weight", found["wte.weight"])
    faults = [f"{key}: missing" for key in ours if key not in found]
    if config.tied_head and not faults and not torch.equal(found["lm_head.weight"], found["wte.weight"]):
        faults.append("lm_head.weight: differs from wte.weight, but the head is tied; use tied_head=False")
    for key, tensor in found.items():
        if key not in ours:
            faults.append(f"{key}: not part of this architecture")
        elif tensor.shape != ours[key].shape:
            has, needs = tuple(tensor.shape), tuple(ours[key].shape)
            as_linear = " (as a Linear's, which is a Conv1D's transposed)" if _CONV1D.search(key) else ""
            faults.append(f"{key}: has shape {has}, needs {needs}{as_linear}")
    if faults:
        raise ValueError("the weights do not fit this GPT-2:\n  " + "\n  ".join(faults))
    model.load_state_dict(found)
    return model


def to_huggingface(model: GPT2) -> dict[str, Tensor]:
    """The model's weights as a state dict for GPT2LMHeadModel; a tied head is left out, as in their files.

    Raises:
        ValueError: for positions that are not a learned table; a missing query-key-value bias is written as zeros.
    """
    config = model.config
    if config.positions != "learned":
        raise ValueError(f"Hugging Face's GPT-2 has learned positions, this model has positions={config.positions}")
    weights = {}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight":
            if not config.tied_head:
                weights[key] = tensor.clone()
            continue
        weights[_PREFIX + key] = tensor.t().contiguous() if _CONV1D.search(key) else tensor.clone()
    if not config.qkv_bias:
        for i in range(config.n_layer):
            weights[f"{_PREFIX}h.{i}.attn.c_attn.bias"] = model.wte.weight.new_zeros(3 * config.n_embd)
    return weights


def config_from_huggingface(fields: Mapping[str, Any]) -> GPT2Config:
    """Our configuration for a GPT2Config of theirs, given as a dictionary.

    Raises:
        ValueError: with every field whose value computes something else than this GPT-2 does.
    """
    faults = [
        f"{field}: {fields[field]!r} is not supported, only {' and '.join(map(repr, allowed))}"
        for field, allowed in _SAME_ARITHMETIC.items()
        if field in fields and fields[field] not in allowed
    ]
    if faults:
        raise ValueError("\n".join(faults))
    return GPT2Config(**{ours: fields[theirs] for ours, theirs in _CONFIG_FIELDS.items() if theirs in fields})


def config_to_huggingface(config: GPT2Config) -> dict[str, Any]:
    """Keyword arguments for their GPT2Config."""
    fields = {theirs: getattr(config, ours) for ours, theirs in _CONFIG_FIELDS.items()}
    return {**fields, "n_ctx": config.block_size, "activation_function": "gelu_new"}
