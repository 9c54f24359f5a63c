"""Trained models opened from runs, checkpoints, Hugging Face folders and the Hub."""
