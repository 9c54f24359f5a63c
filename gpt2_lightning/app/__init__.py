"""Command-line application on Hydra: configuration, verbs, runs and sweeps. No other package imports Hydra."""
