"""Data: from texts and tables to batches.

`corpora` reads and splits text, `shards` encodes it once into files of token ids, `sampling` maps sample numbers to
windows and defines the base data module; `tables`, `classification` and `instruction` do the same for fine-tuning.
"""
