"""A model from anywhere, as ours, and what is known of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2_lightning.checkpoints.content import KEY, SCORE, Description, restore_classifier
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.weights import not_finite
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from gpt2_lightning.tokenizers import Tokenizer

OURS = "GPT-2 Lightning"
PEFT = "PEFT"
"""Programs; others have their names from `huggingface`."""


@dataclass(frozen=True)
class LoadedModel:
    """A model from anywhere, as ours."""

    model: GPT2
    tokenizer: Tokenizer | None
    """None where the source knows of none, and none was named."""
    run_config: dict[str, Any]
    """The configuration of the run that made it; for a model of another program, what is known of its origin."""
    program: str
    """Who saved it."""
    place: str
    """Where it was found, for messages."""
    checkpoint: Path | None = None
    """The file, for one of ours."""
    step: int | None = None
    """The optimizer step of one of ours that a run saved."""
    network: ReferenceGPT2 | None = None
    """The tensors as the other program has them."""
    notes: tuple[str, ...] = ()
    """What was done in reading it."""
    task: dict[str, Any] = field(default_factory=dict)
    """What it was fine-tuned for; see `Description.task`."""
    score: Tensor | None = None
    """A classifier's head, (labels, C)."""
    adapter: TrainedAdapter | None = None
    """The LoRA adapter that is merged into the model, and was saved alone."""

    def description(self) -> Description:
        """What a checkpoint says of the model.

        Raises:
            UserError: if there is no tokenizer.
        """
        if self.tokenizer is None:
            raise UserError(
                f"{self.place} knows of no tokenizer, and it needs one; convert it with "
                "tokenizer_from=gpt2, a folder with tokenizer.json, or a text whose characters are the tokens"
            )
        return Description(self.model.config, self.tokenizer, self.run_config, self.task)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, as a checkpoint of ours names them."""
        return self.model.state_dict() | ({} if self.score is None else {SCORE: self.score})

    def classifier(self) -> Classifier:
        """The model with its head, in evaluation mode.

        Raises:
            UserError: if it is no classifier, or knows of no tokenizer.
        """
        content = {"state_dict": self.tensors(), KEY: self.description().to_plain()}
        return restore_classifier(content, Path(self.place))[0]

    def require_finite(self) -> LoadedModel:
        """The same.

        Raises:
            UserError: listing the tensors that hold NaN or infinity.
        """
        if faults := not_finite(self.tensors()):
            raise UserError("\n  ".join([f"{self.place} holds values that are no numbers", *faults]))
        return self

    def with_head(self, head: LabelHead) -> LoadedModel:
        """The same model as a classifier with a head of Hugging Face's.

        Raises:
            UserError: if its labels are unfit.
        """
        try:
            task = LabelTask(tuple(head.labels), head.kind, "last", head.truncation)
        except ValueError as error:
            raise UserError(f"{self.place} is no classifier that can be read: {error}") from None
        return dataclasses.replace(self, task=task.to_plain(), score=head.score)


def from_own_checkpoint(content: dict[str, Any], description: Description, path: Path, model: GPT2) -> LoadedModel:
    """A checkpoint of ours.

    Args:
        content: what was read.
        description: what it says of itself.
        path: the file.
        model: its model.
    """
    return LoadedModel(
        model,
        description.tokenizer,
        description.run_config,
        OURS,
        str(path),
        path,
        content.get("global_step"),
        task=description.task,
        score=content["state_dict"].get(SCORE),
    )
