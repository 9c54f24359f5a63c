"""Verbs that measure a trained model."""
