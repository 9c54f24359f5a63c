"""Measurements as ratios within one run, since machines differ and are noisy. Results go to `benchmarks/results/`."""
