"""The only room that knows Hydra: command line, preflight, build, and the verbs."""
