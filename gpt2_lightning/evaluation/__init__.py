"""What a loss means."""
