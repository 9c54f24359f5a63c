"""Readers of checkpoints of other programs: nanoGPT and minGPT."""
