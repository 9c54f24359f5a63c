"""Checkpoints as fine-tuning leaves them, made without training: random values, large enough that a fault shows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import ADAPTER, KEY, SCORE, Description, weights_alone, weights_hash
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import adapter_state, add_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from gpt2_lightning.tokenizers import CharTokenizer, Tokenizer
from tests.huggingface.networks import lively

LETTERS = CharTokenizer("abcdefghijklmnopqrstuv", end_of_text=True)
ONE_OF_THREE = LabelTask(("ham", "spam", "other mail"), "single", "last", 11)


def save_base(path: Path, model: GPT2 | None = None) -> Path:
    model = model or lively()
    files.write(weights_alone(model, Description(model.config, LETTERS, {"seed": 3})), path)
    return path


def some_score(task: LabelTask, model: GPT2) -> Tensor:
    return 0.5 * torch.randn(task.n_scores, model.config.n_embd, generator=torch.Generator().manual_seed(7))


def save_classifier(
    path: Path, task: LabelTask = ONE_OF_THREE, tokenizer: Tokenizer = LETTERS, model: GPT2 | None = None
) -> Classifier:
    """Write a classifier's checkpoint, and return the classifier."""
    classifier = Classifier(model or lively(), task.n_scores, task.pooling).eval()
    classifier.score.weight = torch.nn.Parameter(some_score(task, classifier.transformer))
    tensors = classifier.transformer.state_dict() | {SCORE: classifier.score.weight.detach()}
    description = Description(classifier.transformer.config, tokenizer, {"seed": 3}, task.to_plain())
    files.write({"state_dict": tensors, KEY: description.to_plain()}, path)
    return classifier


def with_adapter(model: GPT2, spec: LoRASpec, seed: int = 3) -> GPT2:
    """The same model, with an adapter that changes much."""
    add_lora(model, spec)
    generator = torch.Generator().manual_seed(seed)
    for tensor in adapter_state(model).values():
        tensor.copy_(0.25 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def save_adapter(
    path: Path, base: Path, spec: LoRASpec, model: GPT2 | None = None, task: LabelTask | None = None, seed: int = 3
) -> GPT2:
    """Write the checkpoint of a LoRA run, and return the base with its adapter.

    Args:
        path: the file.
        base: the base's file.
        spec: of the adapter.
        model: the base's model, if it is not `lively`.
        task: of a classifier, whose head is written as well.
        seed: another seed is another adapter.
    """
    model = model or lively()
    hashed = weights_hash(model)
    adapted = with_adapter(model, spec, seed)
    state = adapter_state(adapted)
    adapter = TrainedAdapter(spec, state, str(base), hashed)
    plain = {**(task.to_plain() if task else {}), ADAPTER: adapter.to_plain()}
    tensors = adapter.tensors() | ({SCORE: some_score(task, model)} if task else {})
    description = Description(model.config, LETTERS, {"seed": 3}, plain)
    files.write({"state_dict": tensors, KEY: description.to_plain()}, path)
    return adapted
