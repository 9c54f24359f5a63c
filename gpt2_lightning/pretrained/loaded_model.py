"""Loaded model with its tokenizer and origin."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2_lightning.checkpoints.content import SCORE, WEIGHT_AVERAGE, Description, averaging_of, classifier_of
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.weights import not_finite
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from gpt2_lightning.tokenizers import Tokenizer

THIS_PROGRAM = "GPT-2 Lightning"
PEFT = "PEFT"
"""Values of `LoadedModel.program`; `huggingface` defines those of other programs."""


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded from any source."""

    model: GPT2
    tokenizer: Tokenizer | None
    """None if neither the source nor the options provide one."""
    run_config: dict[str, Any]
    """Configuration of the training run; for a model of another program, its origin."""
    program: str
    """Program that saved the model."""
    location: str
    """The file, folder or Hub address, for messages."""
    checkpoint: Path | None = None
    """The file, for a checkpoint of this program."""
    step: int | None = None
    """The optimizer step, for a checkpoint of a run."""
    network: ReferenceGPT2 | None = None
    """Model with the tensors and arithmetic of the other program, for verification."""
    notes: tuple[str, ...] = ()
    """Changes made in loading, one sentence each."""
    task: dict[str, Any] = field(default_factory=dict)
    """Fine-tuning task; see `Description.task`."""
    score: Tensor | None = None
    """Head of a classifier, (labels, C)."""
    eos_token_ids: tuple[int, ...] = ()
    """Ids that end a text, which may include the tokenizer's end of text."""
    adapter: TrainedAdapter | None = None
    """LoRA adapter that was merged into the model."""

    def description(self) -> Description:
        """Return the description for a checkpoint.

        Raises:
            UserError: if there is no tokenizer.
        """
        if self.tokenizer is None:
            raise UserError(
                f"{self.location} has no tokenizer, and one is needed; convert it with tokenizer_from=gpt2, a folder "
                "with tokenizer.json, or a text whose characters are the tokens"
            )
        return Description(self.model.config, self.tokenizer, self.run_config, self.task, self.eos_token_ids)

    def ends_of_text(self) -> list[int]:
        """Return all ids that end a text, that of the tokenizer first."""
        end = None if self.tokenizer is None else self.tokenizer.end_of_text
        rows = self.model.config.vocab_size
        return [*([] if end is None else [end]), *(i for i in self.eos_token_ids if i != end and i < rows)]

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors, named as in checkpoints of this program."""
        return self.model.state_dict() | ({} if self.score is None else {SCORE: self.score})

    def classifier(self) -> Classifier:
        """Return the model, which is not copied, with its head, in evaluation mode.

        Raises:
            UserError: if it is not a classifier, or has no tokenizer.
        """
        return classifier_of(self.model, self.description(), self.score, Path(self.location))

    def require_finite(self) -> LoadedModel:
        """Return the model unchanged.

        Raises:
            UserError: listing the tensors with NaN or infinite values.
        """
        if faults := not_finite(self.tensors()):
            raise UserError("\n  ".join([f"{self.location} contains values that are NaN or infinite", *faults]))
        return self

    def with_head(self, head: LabelHead) -> LoadedModel:
        """Return the same model as a classifier with a Hugging Face head.

        Raises:
            UserError: if the labels of the head are invalid.
        """
        try:
            task = LabelTask(tuple(head.labels), head.kind, "last", head.truncation)
        except ValueError as error:
            raise UserError(f"{self.location} is not a classifier that can be read: {error}") from None
        return dataclasses.replace(self, task=task.to_plain(), score=head.score)


def from_own_checkpoint(content: dict[str, Any], description: Description, path: Path, model: GPT2) -> LoadedModel:
    """Create the `LoadedModel` of a checkpoint of this program.

    Args:
        content: entries of the checkpoint.
        description: description of the model in the checkpoint.
        path: path of the checkpoint.
        model: model of the checkpoint.
    """
    averaging = averaging_of(content)
    return LoadedModel(
        model,
        description.tokenizer,
        description.run_config | ({} if averaging is None else {WEIGHT_AVERAGE: averaging}),
        THIS_PROGRAM,
        str(path),
        path,
        content.get("global_step"),
        notes=() if averaging is None else (_averaged(**averaging),),
        task=description.task,
        score=content["state_dict"].get(SCORE),
        eos_token_ids=description.eos_token_ids,
    )


def _averaged(method: str, updates: int) -> str:
    """Describe the weights of a run with weight averaging."""
    mean = {"ema": "exponential moving average", "average": "mean"}.get(method, "average")
    return f"its weights are the {mean} of those of {updates:,} steps, as its run validated them"
