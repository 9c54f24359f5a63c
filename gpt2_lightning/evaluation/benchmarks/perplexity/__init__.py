"""Perplexity of texts, WikiText and prepared corpora, over windows of whole documents."""
