"""Verbs of the command line: one module each, in folders by subject, with a class `Config` and a function `run`."""
