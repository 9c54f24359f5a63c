"""Sizes of the network in `conftest`."""

BLOCK = 13
V = 23
"""Tokens of the vocabulary."""
