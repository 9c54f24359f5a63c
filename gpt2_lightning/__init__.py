"""GPT-2, from scratch, on PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
