"""Benchmarks: each is a class with its settings, and a YAML in `conf/benchmarks` for each data set."""
