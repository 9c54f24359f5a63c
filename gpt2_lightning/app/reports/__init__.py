"""Terminal and file output of the inspection and prediction verbs."""
