"""Verbs that show the inside of a model or a run."""
