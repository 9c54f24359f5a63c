"""Attention weights: reading, statistics, ablation, plots and an HTML explorer."""
