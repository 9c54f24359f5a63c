"""Completions and chat completions: from a request to the settings of a generation, and back to OpenAI's answers."""
