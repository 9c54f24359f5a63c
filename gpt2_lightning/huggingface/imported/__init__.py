"""Checkpoints of nanoGPT and minGPT."""
