"""LoRA adapters of a model: add, activate, merge, load, remove.

    add_lora(model, LoRASpec(rank=8, alpha=16))    # freezes the model; only the adapter trains
    state = adapter_state(model)                   # its tensors
    merge(model)                                   # into the weights; unmerge(model) subtracts it again

A model may hold several adapters, at most one of which is active. The model's own weights keep their names.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gpt2_lightning.model.gpt2 import GPT2, Linear
from gpt2_lightning.model.lora.layers import HEAD, LoRALinear, LoRASpec, LowRank, adapted_layers
from gpt2_lightning.model.meta import on_meta_device


def add_lora(model: GPT2, spec: LoRASpec, name: str = "default") -> None:
    """Add a new adapter, activate it, and freeze all other parameters of the model.

    The output of the model does not change. Where the head shares the embedding's weight, an adapter of the head
    does not change the embedding.

    Raises:
        ValueError: if the name is taken, or is not valid, or an adapter is merged.
    """
    _require_unmerged(model)
    if not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"an adapter cannot have the name '{name}'; choose another word, without dots")
    if name in adapters(model):
        raise ValueError(f"the model holds an adapter '{name}' already; give the new one another name")
    model.requires_grad_(False)
    for path, targets in adapted_layers(spec, model.config.n_layer).items():
        layer = _linear(model, path)
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(layer)
            model.set_submodule(path, layer)
        layer.adapters[name] = LowRank(_used_weight(layer), spec, targets)
    set_adapter(model, name)


def remove_lora(model: GPT2) -> None:
    """Remove all adapters. A merged adapter remains in the weights; all parameters become trainable."""
    for path, layer in list(_lora_layers(model)):
        with on_meta_device():
            plain = Linear(layer.in_features, layer.out_features, layer.bias is not None)
        plain.weight, plain.bias = layer.weight, layer.bias
        model.set_submodule(path, plain.train(layer.training))
    model.requires_grad_(True)


def adapters(model: GPT2) -> dict[str, LoRASpec]:
    """Settings of the adapters of a model, by name."""
    return {name: layer.adapter(name).spec for _, layer in _lora_layers(model) for name in layer.adapters}


def active_adapter(model: GPT2) -> str | None:
    """Name of the active adapter, if any."""
    return next((layer.active for _, layer in _lora_layers(model) if layer.active is not None), None)


def set_adapter(model: GPT2, name: str | None) -> None:
    """Activate an adapter, or none: the output then is that of the model without adapters.

    Which parameters are trainable does not change: those of the adapter that was added last.

    Raises:
        ValueError: if the model holds no such adapter, or one is merged.
    """
    _require_unmerged(model)
    if name is not None:
        _require_known(model, name)
    for _, layer in _lora_layers(model):
        layer.active = name if name is not None and name in layer.adapters else None


@contextlib.contextmanager
def using_adapter(model: GPT2, name: str | None) -> Iterator[None]:
    """Context manager that activates an adapter and restores the previous one."""
    before = active_adapter(model)
    set_adapter(model, name)
    try:
        yield
    finally:
        set_adapter(model, before)


def merge(model: GPT2) -> None:
    """Add the active adapter to the weights, which removes its latency (Hu et al. 2021, section 4.1).

    A head that shares the embedding's weight gets its own if it is adapted: `config.tied_head` is False from then on.

    Raises:
        ValueError: if no adapter is active.
    """
    if active_adapter(model) is None:
        raise ValueError("no adapter is active, so there is nothing to merge; activate one with set_adapter")
    for path, layer in _lora_layers(model):
        if layer.active is None:
            continue
        if path == HEAD and model.config.tied_head:
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
            model.config = dataclasses.replace(model.config, tied_head=False)
            layer.was_tied = True
        layer.merge()


def unmerge(model: GPT2) -> None:
    """Undo `merge`, up to rounding: subtract the adapter from the weights, and activate it.

    Raises:
        ValueError: if no adapter is merged.
    """
    merged = [layer for _, layer in _lora_layers(model) if layer.merged is not None]
    if not merged:
        raise ValueError("no adapter is merged, so there is nothing to unmerge")
    for layer in merged:
        layer.unmerge()
        if layer.was_tied:
            layer.was_tied = False
            model.config = dataclasses.replace(model.config, tied_head=True)
            model.tie_head()


def adapter_state(model: GPT2, name: str = "default") -> dict[str, Tensor]:
    """Tensors of one adapter, such as `h.0.attn.c_attn.lora_A.q`: A (rank, in) and B (out, rank) of each target.

    Raises:
        ValueError: if the model holds no such adapter.
    """
    _require_known(model, name)
    return {
        f"{path}.{key}": tensor
        for path, layer in _lora_layers(model)
        if name in layer.adapters
        for key, tensor in layer.adapter(name).state_dict().items()
    }


def base_state(model: GPT2) -> dict[str, Tensor]:
    """State dict of the model without its adapters, under the names of a plain model."""
    return {name: tensor for name, tensor in model.state_dict().items() if ".adapters." not in name}


def load_adapter(model: GPT2, state: Mapping[str, Tensor], spec: LoRASpec, name: str = "default") -> None:
    """Add an adapter with these tensors, as `add_lora` does.

    Args:
        model: the base that it was trained on.
        state: see `adapter_state`.
        spec: the settings that it was trained with.
        name: a new one.

    Raises:
        ValueError: listing every tensor that is missing, left over or of another shape; or as `add_lora` does.
    """
    needed = {
        f"{path}.{key}": tensor.shape
        for path, targets in adapted_layers(spec, model.config.n_layer).items()
        for key, tensor in LowRank(_used_weight(_linear(model, path)).to("meta"), spec, targets).state_dict().items()
    }
    faults = [f"{key}: missing" for key in needed if key not in state]
    for key, tensor in state.items():
        if key not in needed:
            faults.append(f"{key}: not part of this adapter on this model")
        elif tensor.shape != needed[key]:
            faults.append(f"{key}: has shape {tuple(tensor.shape)}, needs {tuple(needed[key])}")
    if faults:
        raise ValueError("the adapter does not fit this model and these settings:\n  " + "\n  ".join(faults))
    add_lora(model, spec, name)
    with torch.no_grad():
        for key, tensor in adapter_state(model, name).items():
            tensor.copy_(state[key])


def _lora_layers(model: GPT2) -> Iterator[tuple[str, LoRALinear]]:
    return ((path, module) for path, module in model.named_modules() if isinstance(module, LoRALinear))


def _linear(model: GPT2, path: str) -> Linear:
    layer = model.get_submodule(path)
    assert isinstance(layer, Linear)
    return layer


def _used_weight(layer: Linear) -> Tensor:
    """The weight without padding rows."""
    return layer.weight.detach()[: layer.out_features]


def _require_known(model: GPT2, name: str) -> None:
    if name not in (known := adapters(model)):
        raise ValueError(f"the model holds no adapter '{name}'; it holds {', '.join(known) or 'none'}")


def _require_unmerged(model: GPT2) -> None:
    if merged := next((layer.merged for _, layer in _lora_layers(model) if layer.merged is not None), None):
        raise ValueError(f"the adapter '{merged}' is merged into the weights; unmerge it first")
