"""A hand-made model whose probabilities are known."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark
from gpt2_lightning.evaluation.evaluate import evaluate
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import Tokenizer

Logits = Mapping[int, Mapping[int, float]]
"""Logits of next tokens by the token before them; all others are 0."""


def bigram_subject(tokenizer: Tokenizer, logits: Logits, block_size: int = 64) -> Subject:
    """A model whose next token depends on the last one alone.

    Attention and MLP add nothing, each token of `logits` has a channel of its own, all others share channel 0, and the
    layer norm is set such that the input of the head is the one-hot vector of the channel.
    """
    width = len(logits) + 1
    config = GPT2Config(tokenizer.vocab_size, block_size, n_layer=1, n_head=1, n_embd=width, tied_head=False)
    model = GPT2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.wte.weight[:, 0] = 1
        for channel, (token, following) in enumerate(logits.items(), 1):
            model.wte.weight[token] = torch.eye(width)[channel]
            for next_token, logit in following.items():
                model.lm_head.weight[next_token, channel] = logit
        variance = 1 / width * (1 - 1 / width) + config.layer_norm_epsilon
        model.ln_f.weight.fill_(variance**0.5)
        model.ln_f.bias.fill_(1 / width)
    return Subject(model, tokenizer, "bigram")


def log_probability(logits: Logits, vocab_size: int, before: int, token: int) -> float:
    """Log-probability of a token after another, by hand."""
    row = torch.zeros(vocab_size, dtype=torch.float64)
    for next_token, logit in logits.get(before, {}).items():
        row[next_token] = logit
    return float(row.log_softmax(0)[token])


def result_of(benchmark: Benchmark, subject: Subject) -> BenchmarkResult:
    """Measure one benchmark."""
    (result,) = evaluate({"benchmark": benchmark}, subject)
    return result
