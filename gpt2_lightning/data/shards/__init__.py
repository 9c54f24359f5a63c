"""Token shards: encoding a corpus, the file format, reading."""
