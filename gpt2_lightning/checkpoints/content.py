"""Content of a checkpoint: configuration of model and run, tokenizer, task and tensors."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.label_task import KIND, LabelTask
from gpt2_lightning.checkpoints.training_state import is_count
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.meta import gpt2_without_weights
from gpt2_lightning.tokenizers import Tokenizer, tokenizer_from_text

KEY = "gpt2_lightning"
"""Entry of a checkpoint that holds its description, beside Lightning's own entries."""
ADAPTER = "adapter"
"""Entry of `Description.task` in a checkpoint of a LoRA adapter without its base: settings, base and hash."""
SCORE = "score.weight"
"""Name of a classifier's head among the tensors; language models are loaded without it."""
WEIGHT_AVERAGE = "weight_average"
"""Entry of a checkpoint whose `state_dict` is an average: `method`, `updates` (the number of averaged weights), and by
the names of Lightning's state dict, `average` in float32 and `trained`, the weights of the step."""
WEIGHT_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
FORMAT = 1
"""Incremented when older versions cannot read what this one writes."""


@dataclass(frozen=True)
class Description:
    """Everything in a self-contained checkpoint but its tensors."""

    model: GPT2Config
    tokenizer: Tokenizer
    run_config: dict[str, Any]
    """The resolved configuration of the run, plain containers."""
    task: dict[str, Any] = field(default_factory=dict)
    """Fine-tuning task as plain values: `kind` is `classify` or `instruct`, the other entries are those of the task.
    Empty for a language model."""
    eos_token_ids: tuple[int, ...] = ()
    """Ids that end a text, which may include the tokenizer's end of text."""

    def to_plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": dataclasses.asdict(self.model),
            "tokenizer": self.tokenizer.to_text(),
            "tokenizer_hash": self.tokenizer.hash(),
            "run_config": self.run_config,
            "task": self.task,
            **({"eos_token_ids": list(self.eos_token_ids)} if self.eos_token_ids else {}),
        }


def describe(checkpoint: dict[str, Any], path: Path) -> Description:
    """Validate the description of a checkpoint. Nothing in it is instantiated by name.

    Raises:
        UserError: if the file was not written by this program, or by a later version.
    """
    plain = checkpoint.get(KEY)
    if not isinstance(plain, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} was not written by GPT-2 Lightning: it has no '{KEY}' entry; check the path")
    try:
        if plain["format"] > FORMAT:
            raise UserError(
                f"{path} has checkpoint format {plain['format']}, this version reads up to {FORMAT}; upgrade"
            )
        config = GPT2Config(**plain["model"])
        tokenizer = _tokenizer(plain["tokenizer"], path)
        run_config = dict(plain["run_config"])
        task = dict(plain.get("task", {}))
        ends = tuple(int(token) for token in plain.get("eos_token_ids", ()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} has a description that this version cannot read: {error!r}; use another file"
        ) from None
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(
            f"{path} is inconsistent: its model has vocab_size={config.vocab_size}, "
            f"its tokenizer has {tokenizer.vocab_size} tokens"
        )
    hashed = hashlib.sha256(plain["tokenizer"].encode(errors="surrogatepass")).hexdigest()
    if plain.get("tokenizer_hash", hashed) != hashed:
        raise UserError(
            f"{path} is inconsistent: its tokenizer has the hash {hashed[:12]}, and it states "
            f"{shortened(plain['tokenizer_hash'])}, so its tokens may mean something else; use another file"
        )
    return Description(config, tokenizer, run_config, task, ends)


def _tokenizer(saved: str, path: Path) -> Tokenizer:
    try:
        return tokenizer_from_text(saved)
    except UserError as error:
        raise UserError(f"{path} has a description that this version cannot read: {error}") from None


def weights_alone(model: GPT2, description: Description) -> dict[str, Any]:
    """A checkpoint without training state: sufficient to generate, inspect and fine-tune, but not to resume."""
    return {"state_dict": model.state_dict(), KEY: description.to_plain()}


def load_model(path: Path, device: torch.device) -> tuple[GPT2, Description]:
    """Load the model of a checkpoint, in evaluation mode, and its description.

    Raises:
        UserError: see `files.read` and `describe`; also if the tensors do not fit the described model.
    """
    model, description = restore(files.read(path), path)
    return model.to(device), description


def restore(checkpoint: dict[str, Any], path: Path) -> tuple[GPT2, Description]:
    """Restore the model of a loaded checkpoint, in evaluation mode, and its description; errors as in `load_model`."""
    description = describe(checkpoint, path)
    own = {key: tensor for key, tensor in checkpoint["state_dict"].items() if key != SCORE}
    try:
        model = gpt2_without_weights(description.model, own)
        _require_weights(own)
        model.load_state_dict(own, assign=True)
        model.tie_head()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} holds other tensors than its own description says: {error}") from None
    return model.eval(), description


def _require_weights(tensors: dict[Any, Any]) -> None:
    """Check that names are strings, and values tensors of one floating-point dtype.

    Raises:
        ValueError: naming what is not.
    """
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{shortened(key)} is of type {type(value).__name__}, and names of tensors are needed")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= WEIGHT_DTYPES:
        found = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"the tensors are {found}, and one of {', '.join(sorted(map(str, WEIGHT_DTYPES)))} is needed")


def averaging_of(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the method of averaging and the number of averaged weights; None where weights are not averaged."""
    saved = checkpoint.get(WEIGHT_AVERAGE)
    if not isinstance(saved, dict) or not isinstance(saved.get("method"), str) or not is_count(saved.get("updates")):
        return None
    return {"method": saved["method"], "updates": saved["updates"]}


def adapter_alone(tensors: dict[str, Any]) -> dict[str, Any]:
    """Select the tensors that are not part of the base model: adapters and the head of a classifier."""
    return {key: tensor for key, tensor in tensors.items() if ".adapters." in key or key == SCORE}


def weights_hash(model: torch.nn.Module, algorithm: Literal["blake2b", "sha256"] = "blake2b") -> str:
    """Hash the tensors of a model with their names, dtypes and shapes.

    Returns:
        256 bits in hexadecimal, independent of the device.
    """
    digest = hashlib.sha256() if algorithm == "sha256" else hashlib.blake2b(digest_size=32)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def restore_classifier(checkpoint: dict[str, Any], path: Path) -> tuple[Classifier, Description]:
    """Restore the classifier of a loaded checkpoint, in evaluation mode, and its description.

    Raises:
        UserError: see `load_model`; also if the checkpoint has no classifier, or its head does not fit its labels.
    """
    model, description = restore(checkpoint, path)
    return classifier_of(model, description, checkpoint["state_dict"].get(SCORE), path), description


def classifier_of(model: GPT2, description: Description, score: torch.Tensor | None, path: Path) -> Classifier:
    """Construct a classifier around a model, which is not copied, in evaluation mode.

    Args:
        model: the language model.
        description: its description.
        score: the head, (labels, C).
        path: the file, for messages.

    Raises:
        UserError: if there is no classifier, or its head does not fit its labels.
    """
    task = description.task
    if task.get("kind") != KIND or score is None:
        found = f"a model for the task '{task['kind']}'" if task.get("kind") else "a language model"
        raise UserError(
            f"{path} is {found} without a classifier's head; fine-tune it with task=classify, or name a classifier"
        )
    try:
        labels = LabelTask.from_plain(task)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} has a task that this version cannot read: {error!r}; use another file") from None
    if score.shape != (labels.n_scores, description.model.n_embd):
        raise UserError(
            f"{path} is inconsistent: its head has the shape {list(score.shape)}, and {labels.n_scores} scores of a "
            f"model of width {description.model.n_embd} need {[labels.n_scores, description.model.n_embd]}"
        )
    classifier = Classifier(model, labels.n_scores, labels.pooling)
    classifier.score.weight = torch.nn.Parameter(score)
    return classifier.eval()


def differing_fields(
    one: GPT2Config, other: GPT2Config, of_one: str = "the configuration has", of_other: str = "the checkpoint"
) -> list[str]:
    """Describe the fields that differ between two architectures, except those that do not affect the tensors.

    Args:
        one: an architecture.
        other: another.
        of_one: words before a value of the first.
        of_other: words before a value of the second.
    """
    free = {"embd_pdrop", "attn_pdrop", "resid_pdrop", "kernels", "initializer_range"}
    pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(GPT2Config)}
    return [
        f"{name}: {of_one} {first}, {of_other} {second}"
        for name, (first, second) in pairs.items()
        if name not in free and first != second
    ]
