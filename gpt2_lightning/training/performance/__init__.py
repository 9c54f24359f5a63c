"""Throughput, memory, micro-batch size and compilation."""
