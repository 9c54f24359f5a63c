"""Checkpoints: tensors and plain values in one file, enough by itself to generate, inspect or resume."""
