"""Text generation for the command line: prompts, files, chat and display."""
