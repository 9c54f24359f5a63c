"""LoRA adapters of a model: put in, choose, merge, load, take out.

    add_lora(model, LoRASpec(rank=8, alpha=16))    # freezes the model; what trains is the adapter alone
    state = adapter_state(model)                   # its tensors
    merge(model)                                   # into the weights; unmerge(model) takes it out again

A model may hold several adapters, one of which is in use. The model's own weights keep their names.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gpt2_lightning.model.gpt2 import GPT2, Linear
from gpt2_lightning.model.lora.layers import HEAD, LoRALinear, LoRASpec, LowRank, layers_of
from gpt2_lightning.model.meta import on_meta_device


def add_lora(model: GPT2, spec: LoRASpec, name: str = "default") -> None:
    """Add a new adapter, take it in use, and freeze all parameters of the model but its own.

    The model still computes exactly the same. Where the head shares the embedding's weight, an adapter of the head
    leaves the embedding alone.

    Raises:
        ValueError: if the name is taken, or cannot be one, or an adapter is merged.
    """
    _require_unmerged(model)
    if not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"an adapter cannot have the name '{name}'; choose another word, without dots")
    if name in adapters(model):
        raise ValueError(f"the model holds an adapter '{name}' already; give the new one another name")
    model.requires_grad_(False)
    for path, targets in layers_of(spec, model.config.n_layer).items():
        layer = _linear(model, path)
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(layer)
            model.set_submodule(path, layer)
        layer.adapters[name] = LowRank(_used_weight(layer), spec, targets)
    use_adapter(model, name)


def remove_lora(model: GPT2) -> None:
    """Take all adapters out. The layers are plain again, with what is merged in them, and all parameters train."""
    for path, layer in list(_lora_layers(model)):
        with on_meta_device():
            plain = Linear(layer.in_features, layer.out_features, layer.bias is not None)
        plain.weight, plain.bias = layer.weight, layer.bias
        model.set_submodule(path, plain.train(layer.training))
    model.requires_grad_(True)


def adapters(model: GPT2) -> dict[str, LoRASpec]:
    """The adapters that the model holds, by name."""
    return {name: layer.adapter(name).spec for _, layer in _lora_layers(model) for name in layer.adapters}


def adapter_in_use(model: GPT2) -> str | None:
    """The adapter that computes now, if any."""
    return next((layer.in_use for _, layer in _lora_layers(model) if layer.in_use is not None), None)


def use_adapter(model: GPT2, name: str | None) -> None:
    """Compute with this adapter, or with none: then exactly as if there were none.

    It changes nothing about what trains, which is the adapter that was added last.

    Raises:
        ValueError: if the model holds no such adapter, or one is merged.
    """
    _require_unmerged(model)
    if name is not None:
        _require_known(model, name)
    for _, layer in _lora_layers(model):
        layer.in_use = name if name is not None and name in layer.adapters else None


@contextlib.contextmanager
def using_adapter(model: GPT2, name: str | None) -> Iterator[None]:
    """`use_adapter` for the length of a block."""
    before = adapter_in_use(model)
    use_adapter(model, name)
    try:
        yield
    finally:
        use_adapter(model, before)


def merge(model: GPT2) -> None:
    """Add the adapter in use to the weights, so that it costs no time (Hu et al. 2021, section 4.1).

    A head that shares the embedding's weight gets its own if it is adapted: `config.tied_head` is False from then on.

    Raises:
        ValueError: if no adapter is in use.
    """
    if adapter_in_use(model) is None:
        raise ValueError("no adapter is in use, so there is nothing to merge; choose one with use_adapter")
    for path, layer in _lora_layers(model):
        if layer.in_use is None:
            continue
        if path == HEAD and model.config.tied_head:
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
            model.config = dataclasses.replace(model.config, tied_head=False)
            layer.was_tied = True
        layer.merge()


def unmerge(model: GPT2) -> None:
    """Undo `merge`: the weights are what they were, up to rounding, and the adapter is in use.

    Raises:
        ValueError: if no adapter is merged.
    """
    merged = [layer for _, layer in _lora_layers(model) if layer.merged is not None]
    if not merged:
        raise ValueError("no adapter is merged, so there is nothing to take out")
    for layer in merged:
        layer.unmerge()
        if layer.was_tied:
            layer.was_tied = False
            model.config = dataclasses.replace(model.config, tied_head=True)
            model.tie_head()


def adapter_state(model: GPT2, name: str = "default") -> dict[str, Tensor]:
    """The tensors of one adapter, as `h.0.attn.c_attn.lora_A.q`: A (rank, in) and B (out, rank) of each target.

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
    """The model's state dict without adapters: the names that a plain model has."""
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
        for path, targets in layers_of(spec, model.config.n_layer).items()
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
    """The weight without rows that pad it."""
    return layer.weight.detach()[: layer.out_features]


def _require_known(model: GPT2, name: str) -> None:
    if name not in (known := adapters(model)):
        raise ValueError(f"the model holds no adapter '{name}'; it holds {', '.join(known) or 'none'}")


def _require_unmerged(model: GPT2) -> None:
    if merged := next((layer.merged for _, layer in _lora_layers(model) if layer.merged is not None), None):
        raise ValueError(f"the adapter '{merged}' is merged into the weights; unmerge it first")
