"""What the inspection and prediction verbs print and write."""
