"""Text to tokens to batches.

`corpus` reads and splits a text, `tokens` encodes it once into memory-mapped files, `order` decides which window is the
n-th sample, `datamodule` hands batches to the trainer.
"""
