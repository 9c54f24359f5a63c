"""Exports in other formats, verified after writing."""
