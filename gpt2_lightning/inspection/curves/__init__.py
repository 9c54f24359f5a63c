"""Training curves of one run or many."""
