"""Interface of fine-tuning tasks, and the context passed to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gpt2_lightning.app.config import build
from gpt2_lightning.app.finetuning.adaptation import NoLoRA, adapt
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.checkpoints.content import ADAPTER, Description, weights_hash
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter, absolute_location
from gpt2_lightning.tokenizers import Tokenizer


@runtime_checkable
class Task(Protocol):
    """A fine-tuning task: a frozen dataclass with the settings of its YAML in `conf/task`."""

    def training_texts(self, settings: FinetuneSettings, cache_dir: Path) -> Iterator[str]:
        """Yield the texts on which the tokenizer of a model with random weights is trained, if it needs training.

        Raises:
            UserError: if the data do not fit the task.
        """

    def job(self, context: FinetuneContext) -> TrainingJob:
        """Read the data, and return the training job.

        Raises:
            UserError: if the data do not fit the task.
        """


@dataclass(frozen=True)
class FinetuneContext:
    """The settings of `finetune`, and the pretrained model."""

    settings: FinetuneSettings
    resolved_config: dict[str, Any]
    """The settings as plain containers, saved in each checkpoint."""
    lora: LoRASpec | NoLoRA
    cache_dir: Path
    model_config: GPT2Config
    tokenizer: Tokenizer
    pretrained: LoadedModel | None
    """The pretrained model; None for random weights."""

    @property
    def block_size(self) -> int:
        """Context length in tokens."""
        return self.model_config.block_size

    @property
    def batch_size(self) -> int:
        """Samples per optimizer step, over all devices."""
        return self.settings.samples_in_step(self.block_size)

    def micro_batch_size(self) -> int:
        """Samples per forward pass of one device; see `RunSettings.micro_batch`."""
        return self.settings.micro_batch(self.model_config)

    def new_model(self) -> GPT2:
        """Return a copy of the pretrained model in float32, or a model with random weights."""
        model = GPT2(self.model_config)
        if self.pretrained is not None:
            model.load_state_dict(self.pretrained.model.state_dict())
        return model

    def adapt(self, model: GPT2 | Classifier) -> None:
        """Freeze parameters, and add a LoRA adapter, according to the settings."""
        adapt(model, self.lora, self.settings.freeze, self.settings.freeze_blocks)

    def describe(self, task: dict[str, Any]) -> Description:
        """Return the description of the trained model, saved in each checkpoint.

        Args:
            task: see `Description.task`.
        """
        if isinstance(self.lora, LoRASpec):
            assert self.pretrained is not None, "checked where the pretrained model is loaded"
            location = absolute_location(self.pretrained.location)
            adapter = TrainedAdapter(self.lora, {}, location, weights_hash(self.pretrained.model)).to_plain()
            task = {**task, ADAPTER: adapter}
        ends = () if self.pretrained is None else self.pretrained.eos_token_ids
        return Description(self.model_config, self.tokenizer, self.resolved_config, task, ends)

    def optimizer_and_schedule(self) -> tuple[Any, Any]:
        """Return the optimizer's and the schedule's settings."""
        return build.make(self.settings.optimizer), build.make(self.settings.schedule)
