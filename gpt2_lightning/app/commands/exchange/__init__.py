"""Verbs that read and write checkpoints."""
