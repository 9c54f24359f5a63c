"""Diagrams of a network, drawn from its configuration."""
