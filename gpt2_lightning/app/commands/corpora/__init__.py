"""Verbs that prepare corpora and tokenizers."""
