"""Inference of GPT-2: KV cache, packed weights, a decoding step of fixed shapes, compiled or captured."""
