"""Process launching: one or several ranks, on one or several machines."""
