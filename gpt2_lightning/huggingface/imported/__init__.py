"""Import of checkpoints of nanoGPT and minGPT."""
