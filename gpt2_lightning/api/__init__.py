"""The Python API: `load` a model, then generate, measure and save. Hydra is not imported.

The names that users need are attributes of `gpt2_lightning` itself; the command line is built on the same classes.
"""
