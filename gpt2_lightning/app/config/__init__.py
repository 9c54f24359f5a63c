"""Hydra configurations: overrides, validation and construction."""
