"""What every fine-tuning task starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.app.config import build
from gpt2_lightning.app.finetuning.adaptation import NoLoRA, adapt
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.checkpoints.content import ADAPTER, Description, weights_hash
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Beginning:
    """The settings, and the model that is fine-tuned."""

    config: FinetuneSettings
    plain: dict[str, Any]
    """The resolved configuration as it is saved."""
    lora: LoRASpec | NoLoRA
    cache_dir: Path
    architecture: GPT2Config
    tokenizer: Tokenizer
    source: LoadedModel | None
    """None for random weights."""

    def micro_batch_size(self) -> int:
        """The user's, or what fits."""
        return self.config.micro_batch(self.architecture)

    def model(self) -> GPT2:
        """The network to start from, in float32 and for itself."""
        fresh = GPT2(self.architecture)
        if self.source is not None:
            fresh.load_state_dict(self.source.model.state_dict())
        return fresh

    def describe(self, task: dict[str, Any]) -> Description:
        """What the checkpoints will say.

        Args:
            task: see `Description.task`.
        """
        if isinstance(self.lora, LoRASpec):
            assert self.source is not None, "checked where the source is opened"
            place = self.source.place if ":" in self.source.place else str(Path(self.source.place).absolute())
            adapter = TrainedAdapter(self.lora, {}, place, weights_hash(self.source.model)).to_plain()
            task = {**task, ADAPTER: adapter}
        return Description(self.architecture, self.tokenizer, self.plain, task)

    def adapt(self, model: GPT2 | Classifier) -> None:
        """Freeze, and add an adapter, as the settings say."""
        adapt(model, self.lora, self.config.freeze, self.config.freeze_blocks)

    def optimizer_and_schedule(self) -> tuple[Any, Any]:
        """Those of the settings."""
        return build.make(self.config.optimizer), build.make(self.config.schedule)
