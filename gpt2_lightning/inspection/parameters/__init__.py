"""Statistics of a model's parameters."""
