"""What `plan=true` prints: counts, advice and their report."""
