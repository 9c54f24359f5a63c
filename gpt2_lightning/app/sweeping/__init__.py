"""Sweeps: grids of settings and Optuna studies, the processes of their runs, and their results."""
