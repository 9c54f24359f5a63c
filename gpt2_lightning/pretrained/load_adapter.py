"""Load LoRA adapters, of this program and of PEFT, merged into their base model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2_lightning.checkpoints.content import ADAPTER, Description, weights_hash
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import hub
from gpt2_lightning.huggingface.label_head import LabelHead, default_kind, unnamed
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.pretrained.loaded_model import PEFT, LoadedModel, from_own_checkpoint
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter

Read = Callable[[str], LoadedModel]
"""Reads a model by its name."""


def from_checkpoint(
    content: dict[str, Any], description: Description, path: Path, base: str | None, read_base: Read
) -> LoadedModel:
    """Load an adapter from a checkpoint of this program, merged into its base model.

    Args:
        content: the checkpoint.
        description: its description.
        path: its file.
        base: source of the base model; None for its location in training.
        read_base: function that reads the base model.

    Raises:
        UserError: if the base cannot be read or is a different model, or the adapter does not fit it.
    """
    adapter = TrainedAdapter.from_checkpoint(content["state_dict"], description.task[ADAPTER], path)
    try:
        found = read_base(base or adapter.base)
    except UserError as error:
        raise UserError(
            f"{path} contains a LoRA adapter, and the model that it was trained on cannot be loaded: {error}; "
            "if it was moved, name it with base="
        ) from None
    adapter.require_base(found.model, path, found.location)
    task = {key: value for key, value in description.task.items() if key != ADAPTER}
    return dataclasses.replace(
        from_own_checkpoint(content, description, path, adapter.merged(found.model, path)),
        notes=(f"its LoRA adapter is merged into {found.location}",),
        task=task,
        adapter=dataclasses.replace(adapter, base=found.location),
        eos_token_ids=description.eos_token_ids or found.eos_token_ids,
    )


def from_peft(path: Path, base: str | None, read_base: Read) -> LoadedModel:
    """Load an adapter from a PEFT folder, merged into its base model.

    Args:
        path: the folder.
        base: source of the base model; None for that of adapter_config.json, if it is a path.
        read_base: function that reads the base model.

    Raises:
        UserError: if the base or the adapter cannot be read, or the adapter does not fit the base.
    """
    stated = adapters.base_of(path)
    if base is None and (stated is None or not Path(stated).exists()):
        of = f"{stated}, which is not a path on this machine" if stated else "a model that it does not name"
        raise UserError(
            f"{path} is a PEFT adapter of {of}; name that model with base=, which is a path, or hf:NAME@REVISION for "
            "one of the hub"
        )
    found = read_base(base or str(stated))
    theirs = adapters.read(path, found.model)
    adapter = TrainedAdapter(theirs.spec, theirs.state, found.location, weights_hash(found.model))
    other = _other_base(stated, theirs.base_hash, adapter)
    merged = LoadedModel(
        adapter.merged(found.model, path),
        found.tokenizer,
        {"origin": {"program": PEFT, "source": str(path), "base": found.location}},
        PEFT,
        str(path),
        notes=(f"its LoRA adapter is merged into {found.location}", *([other] if other else [])),
        adapter=adapter,
        eos_token_ids=found.eos_token_ids,
    )
    return merged if theirs.score is None else merged.with_head(_head_of(theirs.score, found))


def _other_base(stated: str | None, base_hash: str | None, adapter: TrainedAdapter) -> str | None:
    """Describe a base that seems to be another model than that of the adapter's training; None if it does not."""
    if base_hash is not None:
        if base_hash == adapter.base_hash:
            return None
        hashes = f"that has the hash {base_hash[:12]}, and this one {adapter.base_hash[:12]}"
        return f"the adapter was trained on another model, or on this one in another dtype: {hashes}"
    if stated is None or Path(stated).name == _model_name(adapter.base):
        return None
    return f"adapter_config.json names {stated} as the base of the adapter; make sure that it is the same model"


def _model_name(location: str) -> str:
    """Return the last part of a path, or of the name of a model on the Hub without its revision."""
    return Path(location.partition("@")[0] if ":" in location else location).name.removeprefix(hub.SCHEME)


def _head_of(score: Tensor, base: LoadedModel) -> LabelHead:
    """Return the head of a PEFT adapter, with the labels of its base if their number matches, or default names."""
    if base.score is not None and len(base.score) == len(score):
        task = LabelTask.from_plain(base.task)
        return LabelHead(score, task.labels, task.label_kind, task.truncation)
    kind = default_kind(len(score))
    labels = unnamed(len(score)) if kind.fewest_labels else []
    return LabelHead(score, labels, kind.name, base.model.config.block_size)
