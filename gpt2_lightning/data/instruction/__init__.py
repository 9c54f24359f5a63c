"""Instructions with responses: templates, encoding, packing."""
