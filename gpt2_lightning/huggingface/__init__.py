"""Hugging Face's GPT-2, in and out."""

from gpt2_lightning.huggingface.weights import (
    config_from_huggingface,
    config_to_huggingface,
    from_huggingface,
    to_huggingface,
)

__all__ = ["config_from_huggingface", "config_to_huggingface", "from_huggingface", "to_huggingface"]
