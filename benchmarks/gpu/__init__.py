"""Speed of training and decoding on one GPU, with each measure for speed on and off; see `python -m benchmarks.gpu`."""
