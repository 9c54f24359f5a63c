"""Reuse of a classifier's head for further training."""

from __future__ import annotations

from torch import Tensor

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.pretrained.loaded_model import LoadedModel


def continued_head(source: LoadedModel | None, labels: LabelTask) -> Tensor | None:
    """Return the head of the pretrained classifier; None if it has none and a new head is needed.

    Args:
        source: the pretrained model; None for random weights.
        labels: labels and pooling of the task.

    Returns:
        Weight of the head, (scores, C).

    Raises:
        UserError: if the head was trained with other labels, pooling or `add_prefix_space`.
    """
    if source is None or source.score is None:
        return None
    old = LabelTask.from_plain(source.task)
    if (old.label_kind, old.labels) != (labels.label_kind, labels.labels):
        ours, theirs = (task.kind.describe(task.labels) for task in (labels, old))
        raise UserError(
            f"init_from: the head of {source.location} answers with {theirs}, and the data have {ours}; give them "
            "its labels (data.kind, data.labels), or start from a model without a head"
        )
    if old.pooling != labels.pooling:
        raise UserError(
            f"task.reads: {labels.pooling}, but the head of {source.location} learned to read {old.pooling}; "
            f"set task.reads={old.pooling}"
        )
    if old.add_prefix_space != labels.add_prefix_space:
        raise UserError(
            f"task.add_prefix_space: {labels.add_prefix_space}, and the head of {source.location} was trained on texts "
            f"with {old.add_prefix_space}; set task.add_prefix_space={str(old.add_prefix_space).lower()}"
        )
    return source.score
