"""Training runs: settings, estimates, training, resuming and summaries."""
