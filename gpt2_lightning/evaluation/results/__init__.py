"""Results of benchmarks: metrics with intervals, items, comparisons, and the files of an evaluation."""
