"""Token shards: encoding of a corpus, file format, and reading."""
