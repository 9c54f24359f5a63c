"""Callbacks that end a run, or take it back to an earlier step."""
