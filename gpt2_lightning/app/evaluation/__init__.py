"""Settings, progress and tables of the verb `evaluate`."""
