"""Samples and batches from token sequences, in a reproducible order."""
