"""Devices, process groups and sharding."""
