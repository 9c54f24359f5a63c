"""Self-contained checkpoints: tensors and plain values in one file, sufficient to generate, inspect or resume."""
