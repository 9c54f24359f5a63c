"""Logits to text: `sampling` chooses a token, `generate` runs the cached loop."""

from gpt2_lightning.generation.generate import generate
from gpt2_lightning.generation.sampling import Sampling

__all__ = ["Sampling", "generate"]
