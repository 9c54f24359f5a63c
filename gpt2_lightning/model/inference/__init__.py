"""Inference of GPT-2: KV cache, packed weights, a compiled decoding step."""
