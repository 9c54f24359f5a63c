"""Load trained models from runs, checkpoints, Hugging Face folders and the Hub."""
