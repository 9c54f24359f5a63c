"""Import of minGPT's weights: a state dict in a `.pt` file, or JSON with base64.

minGPT uses OpenAI's module names, `nn.Linear` for projections, an untied head, and GPT-2's GELU.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.imported.model import ImportedModel
from gpt2_lightning.huggingface.weight_files import read_json
from gpt2_lightning.huggingface.weights import model_from_weights, without_prefix_and_masks
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.reference import ReferenceGPT2

_NAMED_SIZES = {
    "openai-gpt": (12, 768, 12),
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
    "gopher-44m": (8, 512, 16),
    "gpt-mini": (6, 192, 6),
    "gpt-micro": (4, 128, 4),
    "gpt-nano": (3, 48, 3),
}
"""Layers, width and heads of minGPT's named sizes."""
_SETTINGS = "config.json"
"""File that minGPT's projects write next to `model.pt`."""
_DROPOUT = ("embd_pdrop", "attn_pdrop", "resid_pdrop")


def is_mingpt(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint file is a bare state dict with minGPT's names."""
    named = {"transformer.wte.weight", "lm_head.weight"} <= content.keys()
    return named and all(isinstance(tensor, Tensor) for tensor in content.values())


def read_state_dict(weights: Mapping[str, Any], path: Path, n_head: int | None) -> ImportedModel:
    """Read the model of a state dict.

    Args:
        weights: tensors of the file, loaded with `weights_only=True`.
        path: path of the file, for messages; minGPT's `config.json` in the same folder is read.
        n_head: number of heads, which the tensors do not determine; None to read it from `config.json`.

    Raises:
        UserError: if the number of heads is unknown, or the tensors are not those of a minGPT model.
    """
    beside = path.with_name(_SETTINGS)
    found = read_json(beside) if beside.is_file() else {}
    settings = found["model"] if isinstance(found.get("model"), dict) else found
    return _imported(weights, settings, path, n_head)


def read_json_file(path: Path) -> ImportedModel:
    """Read the model of a JSON file: an object `config`, and the shape, dtype and base64 bytes of each tensor.

    Raises:
        UserError: if the file has another format, or its tensors do not match its config.
    """
    content = read_json(path)
    settings = content.pop("config", None)
    if not isinstance(settings, dict) or "transformer.wte.weight" not in content:
        raise UserError(f"{path} is not a minGPT file: it has no config and transformer.wte.weight; check the path")
    faults, weights = [], {}
    for name, value in content.items():
        try:
            weights[name] = _decode(value)
        except (TypeError, KeyError, ValueError, binascii.Error) as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise UserError(f"{path} contains tensors that cannot be read:\n  " + "\n  ".join(faults))
    return _imported(weights, settings, path, None)


def _decode(value: Mapping[str, Any]) -> Tensor:
    if value["dtype"] != "torch.float32":
        raise ValueError(f"has dtype {value['dtype']}, only torch.float32 is read")
    data, shape = bytearray(base64.b64decode(value["data"], validate=True)), value["shape"]
    if len(data) != 4 * math.prod(shape):
        raise ValueError(f"has {len(data):,} bytes, and its shape {shape} needs {4 * math.prod(shape):,}")
    return torch.frombuffer(data, dtype=torch.float32).view(shape)


def _imported(tensors: Mapping[str, Any], settings: Mapping[str, Any], path: Path, n_head: int | None) -> ImportedModel:
    weights = without_prefix_and_masks(tensors)
    layers = {name.split(".")[1] for name in weights if name.startswith("h.")}
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if len(shapes.get("wte.weight", ())) != 2 or len(shapes.get("wpe.weight", ())) != 2 or not layers:
        raise UserError(
            f"{path} is not a minGPT checkpoint: it has no wte.weight and wpe.weight of two dimensions, or no blocks"
        )
    (vocab_size, n_embd), (block_size, _) = shapes["wte.weight"], shapes["wpe.weight"]
    heads = n_head or _heads(settings, len(layers), n_embd, path)
    dropout = {name: settings[name] for name in _DROPOUT if name in settings}
    try:
        config = GPT2Config(vocab_size, block_size, len(layers), heads, n_embd, tied_head=False, **dropout)
        model = model_from_weights(weights, config)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    return ImportedModel(
        model=model,
        network=ReferenceGPT2(weights, len(layers), heads),
        tokenizer=None,
        origin={"program": "minGPT", "source": str(path)},
    )


def _heads(settings: Mapping[str, Any], n_layer: int, n_embd: int, path: Path) -> int:
    stated = settings.get("n_head")
    if stated is None and settings.get("model_type") in _NAMED_SIZES:
        stated = _NAMED_SIZES[settings["model_type"]][2]
    if isinstance(stated, int):
        return stated
    alike = [name for name, size in _NAMED_SIZES.items() if size[:2] == (n_layer, n_embd)]
    hint = (
        f"; minGPT's {alike[0]}, which has this width and depth, has n_head={_NAMED_SIZES[alike[0]][2]}"
        if alike
        else ""
    )
    raise UserError(
        f"{path}: the tensors do not determine the number of heads, and minGPT's {_SETTINGS} is not beside them; "
        f"add n_head=NUMBER{hint}"
    )
