"""Low-rank adapters and frozen parameters."""
