"""Import and export of Hugging Face's GPT-2; import of checkpoints of nanoGPT and minGPT."""

from gpt2_lightning.huggingface.config import config_from_huggingface, config_to_huggingface
from gpt2_lightning.huggingface.weights import from_huggingface, to_huggingface

__all__ = ["config_from_huggingface", "config_to_huggingface", "from_huggingface", "to_huggingface"]
