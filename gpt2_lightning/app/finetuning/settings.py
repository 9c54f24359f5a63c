"""The settings of the verb `finetune`."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2_lightning.app.config.preflight import Node
from gpt2_lightning.app.finetuning.adaptation import NoLoRA
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.model.lora.freezing import Freeze


@dataclass(frozen=True)
class FinetuneSettings(RunSettings):
    """The top level of `conf/finetune.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    init_from: str
    """A run, a checkpoint, a folder of Hugging Face's or `hf:NAME@REVISION`; `scratch` for random weights."""
    base: str | None
    """Where the model lies that the LoRA adapter of `init_from` was trained on; null for where it was then."""
    freeze: Freeze
    """Which of the model's own parameters stay as they are."""
    freeze_blocks: int
    """The n of `first_n_blocks` and `last_n_blocks`."""
    dropout: float | None
    """Dropout probability everywhere in the model, in place of its own; null leaves that."""
    task: Node
    template: Node
    lora: Node

    def __post_init__(self) -> None:
        faults = []
        try:
            super().__post_init__()
        except ValueError as error:
            faults.append(str(error))
        if self.freeze_blocks < 0:
            faults.append(f"freeze_blocks: {self.freeze_blocks} is out of range, 0 or more is allowed")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            faults.append(f"dropout: {self.dropout} is out of range, 0 up to (not including) 1 is allowed, or null")
        if self.freeze != "none" and not self.lora["_target_"].endswith(NoLoRA.__name__):
            faults.append(f"freeze: {self.freeze} and lora exclude each other, an adapter freezes the whole model")
        if faults:
            raise ValueError("\n".join(faults))
