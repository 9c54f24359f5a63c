"""The server: an OpenAI-compatible API and a page, on continuous batching. FastAPI is imported here alone."""
