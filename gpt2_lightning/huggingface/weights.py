"""Conversion between state dicts of Hugging Face's GPT2LMHeadModel and `GPT2`, in memory.

Hugging Face adds the prefix `transformer.`, and the four projections of a block are Conv1D modules, whose weight is the
transpose of a Linear's. Checkpoints on the Hub omit the prefix and include the causal mask as `attn.bias`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.meta import gpt2_without_weights, on_meta_device

PREFIX = "transformer."
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
_MASK = re.compile(r"\.attn\.(bias|masked_bias)$")
_CLASSIFIER = "score.weight"
_HEAD, _EMBEDDING = "lm_head.weight", "wte.weight"
_FIRST = "h.0.attn.c_attn.weight"
_PADDED_MULTIPLES = tuple(2**power for power in range(3, 11))
"""Multiples to which programs round the rows of a vocabulary up: 8, 16, …, 1,024."""
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def is_huggingface(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint file is a state dict in Hugging Face's layout, where `c_attn` is (C, 3C), a Conv1D."""
    tensor = content.get(f"{PREFIX}{_FIRST}", content.get(_FIRST))
    return isinstance(tensor, Tensor) and tensor.dim() == 2 and tensor.size(1) == 3 * tensor.size(0)


def from_huggingface(weights: Mapping[str, Tensor], config: GPT2Config) -> GPT2:
    """Build a model from copies of a GPT2LMHeadModel's weights, in their dtype.

    Args:
        weights: state dict, with or without the `transformer.` prefix, mask buffers and the tied head.
        config: configuration of the model, see `config_from_huggingface`.

    Raises:
        ValueError: see `model_from_weights`.
    """
    found = {
        key: tensor.t() if _CONV1D.search(key) and tensor.dim() == 2 else tensor
        for key, tensor in without_prefix_and_masks(weights).items()
    }
    return model_from_weights(found, config, transposed=True)


def to_huggingface(model: GPT2) -> dict[str, Tensor]:
    """Convert the model's weights to a state dict for GPT2LMHeadModel, in their dtype, without a tied head.

    Sinusoidal positions are written as a table of learned ones, and a missing query-key-value bias as zeros, which are
    equivalent. Rows that pad the vocabulary are omitted.
    """
    config = model.config
    weights = {}
    for key, tensor in model.state_dict().items():
        if key in (_EMBEDDING, _HEAD):
            tensor = tensor[: config.vocab_size]
        if key == _HEAD:
            if not config.tied_head:
                weights[key] = tensor.clone()
            continue
        if key == "wpe.table":
            key = "wpe.weight"
        weights[PREFIX + key] = tensor.t().contiguous() if _CONV1D.search(key) else tensor.clone()
    if not config.qkv_bias:
        for i in range(config.n_layer):
            weights[f"{PREFIX}h.{i}.attn.c_attn.bias"] = model.wte.weight.new_zeros(3 * config.n_embd)
    return weights


def without_prefix_and_masks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix of names, and the mask buffers; the layout of tensors is unchanged."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in weights.items() if not _MASK.search(name)}


def model_from_weights(weights: Mapping[str, Tensor], config: GPT2Config, transposed: bool = False) -> GPT2:
    """Build a model from copies of weights in the names and layout of `GPT2`; mixed dtypes become the widest.

    Args:
        weights: state dict; a tied head may be missing.
        config: configuration of the model.
        transposed: whether the projections had the layout of Conv1D, for messages.

    Raises:
        ValueError: with every tensor that is missing, unexpected, of another shape or dtype, or not finite.
    """
    model = gpt2_without_weights(config, weights)
    needed = model.state_dict()
    found = dict(weights)
    if config.tied_head and _EMBEDDING in found:
        found.setdefault(_HEAD, found[_EMBEDDING])
    faults = [f"{key}: missing" for key in needed if key not in found]
    for key, tensor in found.items():
        if key not in needed:
            faults.append(f"{key}: not part of this architecture{_hint(key)}")
        elif tensor.shape != needed[key].shape:
            has, needs = tuple(tensor.shape), tuple(needed[key].shape)
            as_linear = " (as a Linear's, which is a Conv1D's transposed)" if transposed and _CONV1D.search(key) else ""
            faults.append(f"{key}: has shape {has}, needs {needs}{as_linear}")
        elif tensor.dtype not in _DTYPES:
            faults.append(
                f"{key}: has dtype {dtype_name(tensor.dtype)}, {', '.join(map(dtype_name, _DTYPES))} are allowed"
            )
    if config.tied_head and not faults and not torch.equal(found[_HEAD], found[_EMBEDDING]):
        faults.append("lm_head.weight: differs from wte.weight, but the head is tied; use tied_head=False")
    if faults := faults or not_finite(found):
        raise ValueError("the weights do not fit this GPT-2:\n  " + "\n  ".join(faults))
    widest = functools.reduce(torch.promote_types, (tensor.dtype for tensor in found.values()))
    owned = {key: tensor.to(widest, copy=True).contiguous() for key, tensor in found.items()}
    model.load_state_dict(owned, assign=True)
    model.tie_head()
    return model


def recast(model: GPT2, dtype: torch.dtype) -> GPT2:
    """Copy a model with weights of another dtype, in evaluation mode."""
    with on_meta_device():
        twin = GPT2(model.config)
    twin.load_state_dict({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, assign=True)
    twin.tie_head()
    return twin.eval()


def is_padded(rows: int, tokens: int) -> bool:
    """Whether a number of rows is a vocabulary size rounded up to a multiple for faster products."""
    return rows > tokens and any(rows == -(-tokens // multiple) * multiple for multiple in _PADDED_MULTIPLES)


def with_vocabulary(model: GPT2, size: int) -> GPT2:
    """Copy a model with the first `size` tokens of its vocabulary, whose logits are unchanged, in evaluation mode."""
    with on_meta_device():
        twin = GPT2(dataclasses.replace(model.config, vocab_size=size))
    state = model.state_dict()
    cut = {name: state[name][:size].clone() for name in (_EMBEDDING, _HEAD)}
    twin.load_state_dict(state | cut, assign=True)
    twin.tie_head()
    return twin.eval()


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Describe each tensor with values that are NaN or infinite, with their number."""
    suspects = (key for key, tensor in weights.items() if not tensor.sum(dtype=torch.float32).isfinite())
    counts = {key: int((~weights[key].isfinite()).sum()) for key in suspects}
    return [
        f"{key}: {count:,} of {weights[key].numel():,} values are NaN or infinite"
        for key, count in counts.items()
        if count  # finite values may have an infinite sum
    ]


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as `float32` or `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _hint(key: str) -> str:
    return "; it is a classifier's head, which is not read" if key == _CLASSIFIER else ""
