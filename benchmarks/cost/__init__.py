"""How time and memory grow with the sizes of a model and its data."""
