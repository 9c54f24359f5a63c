"""Exports to other formats, verified after writing."""
