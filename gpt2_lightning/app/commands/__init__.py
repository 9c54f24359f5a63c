"""Verbs of the command line: one module each, with a class `Config` and a function `run`."""
