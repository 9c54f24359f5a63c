"""Sources of text: files, downloads, Hugging Face data sets, token files and mixes."""
