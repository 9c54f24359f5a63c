"""Log-likelihoods of continuations under a language model."""
