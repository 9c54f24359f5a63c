"""LoRA adapters that lie alone, ours and PEFT's: every verb gets them merged into the model that they adapt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2_lightning.checkpoints.content import ADAPTER, Description, weights_hash
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.label_head import LabelHead, default_kind, unnamed
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.pretrained.loaded_model import PEFT, LoadedModel, from_own_checkpoint
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter

Read = Callable[[str], LoadedModel]
"""Reads a model by its name."""


def from_checkpoint(
    content: dict[str, Any], description: Description, path: Path, base: str | None, read_base: Read
) -> LoadedModel:
    """An adapter of ours, merged into the model that it was trained on.

    Args:
        content: the checkpoint that was read.
        description: what it says of itself.
        path: its file.
        base: where the model lies; None for where it was in training.
        read_base: opens it.

    Raises:
        UserError: if the model cannot be opened or is another, or the adapter does not fit.
    """
    adapter = TrainedAdapter.from_checkpoint(content["state_dict"], description.task[ADAPTER], path)
    try:
        found = read_base(base or adapter.base)
    except UserError as error:
        raise UserError(
            f"{path} holds a LoRA adapter, and the model that it was trained on cannot be opened: {error}; "
            "if that was moved, name its place with base="
        ) from None
    adapter.require_base(found.model, path, found.place)
    task = {key: value for key, value in description.task.items() if key != ADAPTER}
    return dataclasses.replace(
        from_own_checkpoint(content, description, path, adapter.merged(found.model, path)),
        notes=(f"its LoRA adapter is merged into {found.place}",),
        task=task,
        adapter=dataclasses.replace(adapter, base=found.place),
    )


def from_peft(path: Path, base: str | None, read_base: Read) -> LoadedModel:
    """A folder of PEFT's, merged into the model that it adapts.

    Args:
        path: the folder.
        base: where the model lies; None for what the folder says, if that is a path.
        read_base: opens it.

    Raises:
        UserError: if the model cannot be opened, or the adapter cannot be read or does not fit.
    """
    stated = adapters.base_of(path)
    if base is None and (stated is None or not Path(stated).exists()):
        of = f"{stated}, which is no path here" if stated else "a model that it does not name"
        raise UserError(
            f"{path} is a PEFT adapter of {of}; name that model with base=, which is a path, or hf:NAME@REVISION for "
            "one of the hub"
        )
    found = read_base(base or str(stated))
    theirs = adapters.read(path, found.model)
    adapter = TrainedAdapter(theirs.spec, theirs.state, found.place, weights_hash(found.model))
    merged = LoadedModel(
        adapter.merged(found.model, path),
        found.tokenizer,
        {"origin": {"program": PEFT, "source": str(path), "base": found.place}},
        PEFT,
        str(path),
        notes=(f"its LoRA adapter is merged into {found.place}",),
        adapter=adapter,
    )
    return merged if theirs.score is None else merged.with_head(_head_of(theirs.score, found))


def _head_of(score: Tensor, base: LoadedModel) -> LabelHead:
    """A PEFT adapter's head, which does not tell its labels: they are the base's, where that has as many."""
    if base.score is not None and len(base.score) == len(score):
        task = LabelTask.from_plain(base.task)
        return LabelHead(score, task.labels, task.label_kind, task.truncation)
    kind = default_kind(len(score))
    labels = unnamed(len(score)) if kind.fewest_labels else []
    return LabelHead(score, labels, kind.name, base.model.config.block_size)
