"""Callbacks that measure a run: metrics, attention, samples."""
