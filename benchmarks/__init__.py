"""Benchmarks. Results are ratios within one run, since machines differ and are noisy; see `benchmarks/results/`."""
