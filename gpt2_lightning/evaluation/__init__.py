"""Evaluation: metrics, predictions, answers to instructions, and parity with transformers."""
