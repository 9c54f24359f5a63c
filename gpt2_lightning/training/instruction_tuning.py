"""The LightningModule of instruction tuning."""

from __future__ import annotations

from gpt2_lightning.training.language_modeling import LanguageModeling


class InstructionTuning(LanguageModeling):
    """Train a GPT2 to predict the tokens of answers; losses are means over those tokens.

    Bits per byte are not defined: the targets are only a part of the text.
    """

    headline = "perplexity"
