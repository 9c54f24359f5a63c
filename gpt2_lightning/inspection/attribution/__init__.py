"""Which tokens a classifier's prediction depends on."""
