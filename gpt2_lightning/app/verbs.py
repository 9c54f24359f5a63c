"""The verbs of the command line, and their modules in `commands`, each with a class `Config` and a function `run`."""

from __future__ import annotations

_VERBS = {
    "prepare": ("corpora", "encode a corpus as token shards, once"),
    "tokenizer": ("corpora", "train a tokenizer and inspect it"),
    "train": ("training", "pre-train a model on a text"),
    "finetune": ("training", "fine-tune a trained model on a task"),
    "sweep": ("training", "search for the best hyperparameters"),
    "generate": ("generation", "generate text from a checkpoint"),
    "serve": ("generation", "a page to write with a model, and an OpenAI-compatible API"),
    "predict": ("evaluation", "label texts with a classifier"),
    "evaluate": ("evaluation", "measure a model on benchmarks, with intervals and beside OpenAI's GPT-2"),
    "compare": ("evaluation", "compare a checkpoint with transformers' GPT-2 and name the causes of differences"),
    "convert": ("exchange", "convert to and from Hugging Face's format; from nanoGPT's and minGPT's"),
    "merge": ("exchange", "average the weights of several checkpoints into one"),
    "attention": ("inspection", "attention weights as numbers, plots and an HTML explorer"),
    "explain": ("inspection", "attribute a classifier's prediction to tokens, by three methods"),
    "params": ("inspection", "a model's tensors, statistics and cost as a table, a tree, CSV or a diagram"),
    "plot": ("inspection", "training curves of one run or many, as a picture or a page"),
}
"""Folder and purpose of each verb, in the order of the life of a checkpoint."""

PURPOSES = {verb: purpose for verb, (_, purpose) in _VERBS.items()}


def module_of(verb: str) -> str:
    """Dotted path of a verb's module."""
    return f"gpt2_lightning.app.commands.{_VERBS[verb][0]}.{verb}"
