"""Lightning modules of small networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.optimizers import AdamW, OptimizerSpec
from gpt2_lightning.training.schedules import Constant
from tests.training.short_run import ALPHABET, CONFIG

Make = Callable[[], LanguageModeling]


def task(
    config: GPT2Config = CONFIG,
    change: Callable[[GPT2], Any] = lambda model: None,
    optimizer: OptimizerSpec = AdamW(lr=1e-3),  # noqa: B008  # frozen
) -> Make:
    def make() -> LanguageModeling:
        model = GPT2(config)
        change(model)
        return LanguageModeling(model, optimizer, Constant(), Description(config, CharTokenizer(ALPHABET), {}))

    return make
