"""Sources of text: files, downloads, Hugging Face datasets, token files and mixes."""
