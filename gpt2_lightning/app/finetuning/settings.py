"""Settings of the verb `finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf, open_dict

from gpt2_lightning.app.config import targets
from gpt2_lightning.app.finetuning.adaptation import NoLoRA
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.model.lora.freezing import Freeze
from gpt2_lightning.settings import BelowOne, NonNegativeInt, PathText, relation

SCRATCH = "scratch"
"""The value of `init_from` for random weights."""
_PRETRAINED_TOKENIZER = "gpt2_lightning.tokenizers.pretrained.from_pretrained"


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(RunSettings):
    """The top level of `conf/finetune.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    init_from: PathText
    """A run, a checkpoint, a Hugging Face folder or `hf:NAME@REVISION`; `scratch` for random weights."""
    base: PathText | None = None
    """The base model of the LoRA adapter in `init_from`; null for the path in the adapter."""
    freeze: Freeze = "none"
    """Parameters of the model to freeze."""
    freeze_blocks: NonNegativeInt = 1
    """The n of `first_n_blocks` and `last_n_blocks`."""
    dropout: BelowOne | None = None
    """Dropout probability everywhere in the model; null for that of the pretrained model."""
    task: targets.Task
    template: targets.Template
    lora: targets.LoRA

    @classmethod
    def adjust(cls, config: DictConfig, typed: dict[str, str]) -> None:
        """See `RunSettings.adjust`. A pretrained model brings its tokenizer, so that a chosen one is not used."""
        super().adjust(config, typed)
        is_scratch = OmegaConf.is_missing(config, "init_from") or config.init_from == SCRATCH
        if is_scratch or config.tokenizer.get("_target_") == _PRETRAINED_TOKENIZER:
            return
        kept = [key.removeprefix("tokenizer.") for key in typed if key.startswith("tokenizer.")]
        with open_dict(config):
            config.tokenizer = {"_target_": _PRETRAINED_TOKENIZER, **{key: config.tokenizer.get(key) for key in kept}}

    @relation
    def _adapter_freezes_the_model(self) -> Iterator[str]:
        if self.freeze != "none" and not self.lora["_target_"].endswith(NoLoRA.__name__):
            yield f"freeze: {self.freeze} and lora exclude each other, an adapter freezes the whole model"
