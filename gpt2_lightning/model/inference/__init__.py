"""What generation adds to GPT-2: KV cache, packed weights, a compiled step."""
