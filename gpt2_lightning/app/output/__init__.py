"""Terminal output, log files, result folders and exit codes."""
