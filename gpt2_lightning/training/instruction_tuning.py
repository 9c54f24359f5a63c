"""The LightningModule of instructions."""

from __future__ import annotations

from gpt2_lightning.training.language_modeling import LanguageModeling


class InstructionTuning(LanguageModeling):
    """Predicts the next token, where it is part of an answer; losses are means over those tokens.

    Bits per byte have no meaning here: what is predicted is no whole text.
    """

    headline = "perplexity"
