"""Merge of models into one whose weights are their mean, verified against a mean that is computed another way.

As in Wortsman et al. 2022, "Model soups": models that were fine-tuned from the same weights, or checkpoints of one run,
often have a mean that is better than each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, Description, differing_fields, restore, weights_hash
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel


def merge(models: Sequence[LoadedModel], weights: Sequence[float], path: Path) -> list[str]:
    """Write a checkpoint with the weighted mean of the weights of models.

    Args:
        models: two models or more.
        weights: weight of each in the mean, above 0; only their ratios count.
        path: the checkpoint to write.

    Returns:
        Results of the verification, one line each.

    Raises:
        UserError: if the models differ in their architecture, tokenizer, task or dtype, contain an adapter, or the
            verification fails.
    """
    for other in models[1:]:
        _require_alike(models[0], other)
    shares = [weight / sum(weights) for weight in weights]
    merged = {}
    for name, first in models[0].tensors().items():
        mean = torch.zeros(first.shape, dtype=torch.float64)
        for model, share in zip(models, shares, strict=True):
            mean.add_(model.tensors()[name].double(), alpha=share)
        merged[name] = mean.to(first.dtype)
    description = _description(models, shares)
    files.write({"state_dict": merged, KEY: description.to_plain()}, path)
    return _verify(models, weights, path)


def _require_alike(one: LoadedModel, other: LoadedModel) -> None:
    """Check that the mean of two models is a model.

    Raises:
        UserError: naming both, and what differs.
    """
    for model in (one, other):
        if model.adapter is not None:
            raise UserError(
                f"checkpoints: {model.location} is a LoRA adapter, and the mean of two adapters' factors is not the "
                "mean of their products; merge each into its base with convert source=ADAPTER target=MODEL.ckpt "
                "to=gpt2_lightning, and name these checkpoints"
            )
    both = f"{one.location} and {other.location}"
    if differing := differing_fields(one.model.config, other.model.config, "the first has", "the second"):
        raise UserError("\n  ".join([f"checkpoints: {both} have different architectures", *differing]))
    hashes = [model.description().tokenizer.hash()[:12] for model in (one, other)]
    if hashes[0] != hashes[1]:
        raise UserError(
            f"checkpoints: {both} have different tokenizers, with the hashes {hashes[0]} and {hashes[1]}: an id is "
            "another token in each"
        )
    if one.task != other.task:
        names = " and ".join(model.task.get("kind") or "language modeling" for model in (one, other))
        raise UserError(f"checkpoints: {both} are trained for different tasks, labels or templates: {names}")
    shapes = [{name: tensor.shape for name, tensor in model.tensors().items()} for model in (one, other)]
    if shapes[0] != shapes[1]:
        names = ", ".join(sorted(name for name, _ in shapes[0].items() ^ shapes[1].items()))
        raise UserError(f"checkpoints: {both} have tensors of different names or shapes: {names}")
    dtypes = [dtype_name(model.model.wte.weight.dtype) for model in (one, other)]
    if dtypes[0] != dtypes[1]:
        raise UserError(
            f"checkpoints: {both} have weights in {dtypes[0]} and {dtypes[1]}; convert one with convert dtype=…"
        )


def _description(models: Sequence[LoadedModel], shares: Sequence[float]) -> Description:
    """Return the description of the first model, with the settings that all runs share, and the origin of each."""
    first = models[0]
    shared: dict[str, Any] = {
        key: value
        for key, value in first.run_config.items()
        if all(key in model.run_config and model.run_config[key] == value for model in models)
    }
    merged = {
        str(number): {"source": model.location, "sha256": sha256_of(model), "share": share}
        for number, (model, share) in enumerate(zip(models, shares, strict=True), 1)
    }
    origin = {"program": THIS_PROGRAM, "merged": merged}
    return dataclasses.replace(first.description(), run_config={**shared, "origin": origin})


def sha256_of(model: LoadedModel) -> str:
    """Hash all weights of a model, as runs and evaluations state them."""
    return weights_hash(model.model if model.score is None else model.classifier(), "sha256")


def _verify(models: Sequence[LoadedModel], weights: Sequence[float], path: Path) -> list[str]:
    """Read a merged checkpoint, and compare its tensors with NumPy's means of those of the models, in float64."""
    content = files.read(path)
    restore(content, path)
    found, largest = content["state_dict"], 0.0
    for name, tensor in found.items():
        values = [model.tensors()[name].double().numpy() for model in models]
        difference = np.abs(tensor.double().numpy() - np.average(values, axis=0, weights=weights))
        rounding = torch.finfo(tensor.dtype).eps * np.max(np.abs(values), axis=0)
        if np.any(difference > rounding):
            raise UserError(f"{path}: {name} differs from the mean by up to {difference.max():.1e}; it was not written")
        largest = max(largest, float(difference.max(initial=0.0)))
    return [
        f"  {len(found)} tensors read back equal NumPy's float64 mean up to rounding: largest difference {largest:.1e}"
    ]
