"""Labeled texts, encoded and batched."""
