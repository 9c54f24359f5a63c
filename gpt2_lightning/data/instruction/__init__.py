"""Instruction tuning: templates, encoding and packing of conversations."""
