"""Saving of checkpoints: the plugin of Lightning, the queue of its writes, copies in the memory of the host."""
