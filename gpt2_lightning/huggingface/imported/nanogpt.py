"""Import of nanoGPT's checkpoint `ckpt.pt`.

nanoGPT uses OpenAI's module names, `nn.Linear` for projections, and a tied head. With `bias=False`, no layer has a
bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.imported.model import ImportedModel
from gpt2_lightning.huggingface.weights import model_from_weights, without_prefix_and_masks
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.meta import gpt2_without_weights
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.tokenizers import GPT2Tokenizer

_COMPILED = "_orig_mod."
_SHAPE = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
_KNOWN = {*_SHAPE, "bias", "dropout"}
_PADDED = 50304
"""GPT-2's vocabulary, padded by nanoGPT to a multiple of 64."""
_VOCABULARIES = ("wte.weight", "lm_head.weight")
_GELU = (
    "the file does not record which GELU it was trained with; the exact one is assumed, which nanoGPT has computed "
    "since the middle of 2023"
)


def is_nanogpt(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint file has nanoGPT's entries."""
    model, settings = content.get("model"), content.get("model_args")
    return isinstance(settings, dict) and isinstance(model, dict) and all(isinstance(t, Tensor) for t in model.values())


def read(content: Mapping[str, Any], path: Path) -> ImportedModel:
    """Read the model of a nanoGPT checkpoint.

    Args:
        content: entries of the file, loaded with `weights_only=True`.
        path: path of the file, for messages.

    Raises:
        UserError: if the settings are not nanoGPT's, or the tensors do not match the settings.
    """
    settings = content["model_args"]
    if strange := sorted(settings.keys() - _KNOWN):
        raise UserError(
            f"{path}: model_args has {', '.join(f'{name}={settings[name]!r}' for name in strange)}, which nanoGPT does "
            "not have: it is another program's checkpoint, whose arithmetic is not known"
        )
    if missing := [name for name in _SHAPE if not isinstance(settings.get(name), int)]:
        raise UserError(
            f"{path}: model_args has no number for {', '.join(missing)}, which nanoGPT writes; check the file"
        )
    tensors = {name.removeprefix(_COMPILED): tensor for name, tensor in content["model"].items()}
    weights = without_prefix_and_masks(tensors)
    model, notes = _model(weights, settings, path)
    return ImportedModel(
        model=model,
        network=ReferenceGPT2(weights, model.config.n_layer, model.config.n_head, exact_gelu=True),
        tokenizer=GPT2Tokenizer() if model.config.vocab_size == GPT2Tokenizer().vocab_size else None,
        origin={"program": "nanoGPT", "source": str(path)} | _training(content),
        notes=(*notes, _GELU),
    )


def _model(weights: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path) -> tuple[GPT2, list[str]]:
    notes, has_bias, vocab_size = [], bool(settings.get("bias", True)), settings["vocab_size"]
    kept = dict(weights)
    if vocab_size == _PADDED:
        vocab_size = GPT2Tokenizer().vocab_size
        kept |= {name: kept[name][:vocab_size] for name in _VOCABULARIES if name in kept}
        notes.append(
            f"the {_PADDED - vocab_size} rows from {vocab_size} on of the embedding were removed: they pad the "
            "vocabulary and represent no token; the logits of the tokens are unchanged"
        )
    dropout = settings.get("dropout", 0.0)
    shape = {name: settings[name] for name in _SHAPE} | {"vocab_size": vocab_size}
    try:
        config = GPT2Config(
            **shape, gelu="exact", qkv_bias=has_bias, embd_pdrop=dropout, attn_pdrop=dropout, resid_pdrop=dropout
        )
        if not has_bias:
            kept = _biases_of_zero(kept, config) | kept
            notes.append("its layers have no biases; they are kept as zeros, which compute the same")
        return model_from_weights(kept, config), notes
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def _biases_of_zero(weights: Mapping[str, Tensor], config: GPT2Config) -> dict[str, Tensor]:
    needed = gpt2_without_weights(config, weights).state_dict()
    dtype = next(iter(weights.values())).dtype if weights else torch.float32
    return {name: torch.zeros(it.shape, dtype=dtype) for name, it in needed.items() if name.endswith(".bias")}


def _training(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training settings and metrics in the file, as plain values."""
    best, config = content.get("best_val_loss"), content.get("config")
    figures = {"steps": content.get("iter_num"), "best_val_loss": None if best is None else float(best)}
    settings = {"settings": dict(config)} if isinstance(config, dict) else {}
    return {name: value for name, value in figures.items() if value is not None} | settings
