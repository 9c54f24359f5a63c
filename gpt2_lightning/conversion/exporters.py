"""Exporters for each format.

An exporter rejects models that the format cannot express, and returns a `Write`: a function of the `Check`, the model
in its new dtype and the path, which writes and verifies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import ADAPTER, KEY, SCORE, Description
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.conversion.model_card import card_of, trained_template, written_question
from gpt2_lightning.conversion.verify import Check
from gpt2_lightning.conversion.verify_adapter import check_alone, check_in_peft, check_written
from gpt2_lightning.conversion.verify_classifier import check_classifier
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, folder, hub
from gpt2_lightning.huggingface.label_head import LabelHead, without_own_head
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.tokenizer_files import add_prefix_space
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter

Write = Callable[[Check, GPT2, Path], None]


def checkpoint(source: LoadedModel) -> Write:
    """Export a checkpoint of this program, with all weights.

    Raises:
        UserError: if there is no tokenizer.
    """
    description = source.description()

    def write(check: Check, model: GPT2, path: Path) -> None:
        tensors = model.state_dict() | _score(source, model)
        files.write({"state_dict": tensors, KEY: description.to_plain()}, path)
        check.checkpoint(path, tensors)

    return write


def huggingface_folder(source: LoadedModel, max_shard_bytes: int, name: str) -> Write:
    """Export a Hugging Face folder of a language model or a classifier.

    Args:
        source: model to export.
        max_shard_bytes: maximum size of the tensors in a file, in bytes.
        name: name of the model in its card.

    Raises:
        UserError: if the model is a classifier that transformers cannot express.
    """
    task = None if source.score is None else _task_for_transformers(source)

    def write(check: Check, model: GPT2, path: Path) -> None:
        if task is None:
            card = card_of(source, name, None).text(model, source.tokenizer)
            folder.write(model, source.tokenizer, path, card, max_shard_bytes, ends=source.ends_of_text())
            check.folder(path, model, source.tokenizer)
            if source.tokenizer is not None and source.tokenizer.end_of_text is None:
                check.lines.append(
                    "  its tokenizer has no end-of-text token: texts end at their greatest length, and CTranslate2, "
                    "which requires the token, cannot load the model"
                )
            if (template := trained_template(source)) is not None:
                chat_template.write(template.to_plain(), path)
                check.template(path, template)
            return
        if not model.config.tied_head:
            check.lines.append("  the language model's own head is left out: classifiers of transformers have none")
        model = without_own_head(model)
        head = LabelHead(_score(source, model)[SCORE], task.labels, task.label_kind, task.truncation)
        card = card_of(source, name, head).text(model, source.tokenizer)
        folder.write(model, source.tokenizer, path, card, max_shard_bytes, head)
        if task.add_prefix_space:
            add_prefix_space(path)
        check_classifier(check, path, model, head, source.tokenizer)

    return write


def peft_adapter(source: LoadedModel, base_name: str | None, runs_dir: Path) -> Write:
    """Export a LoRA adapter for PEFT.

    Args:
        source: model with the merged adapter.
        base_name: name of the base model in adapter_config.json; None for its location, if PEFT can load it.
        runs_dir: folder of all runs, for a base model that is `latest`.

    Raises:
        UserError: if the source is not an adapter, or a classifier that PEFT cannot express, or no `base_name` is given
            for a base that is a checkpoint file.
    """
    adapter = _adapter_of(source)
    if base_name is None and Path(adapter.base).is_file():
        raise UserError(
            f"base_name: missing; the base of the adapter is {adapter.base}, a checkpoint that peft cannot load; write "
            f"it as a folder with convert source={adapter.base} target=FOLDER, and repeat this command with "
            "base_name=FOLDER, or with the name that the folder will have on the Hub"
        )
    if source.score is not None:
        _task_for_transformers(source)
    base = load_pretrained(adapter.base, LoadOptions(runs_dir)).model
    named = base_name or name_on_the_hub(adapter.base) or adapter.base

    def write(check: Check, model: GPT2, path: Path) -> None:
        theirs = adapters.PeftAdapter(adapter.spec, adapter.state, named, source.score, adapter.base_hash)
        adapters.write(theirs, path)
        check_written(check, path, adapter, base, source.score)
        check_in_peft(check, path, adapter, base, source.score)
        how = "" if source.score is None else f", loaded for classification with num_labels={len(source.score)}"
        check.lines.append(f"  for peft over {named}, which must be a Hugging Face model{how}")
        if (question := written_question(source)) is not None:
            check.lines.append(f"  its template is not in the folder; it renders a question as {question!r}")

    return write


def adapter_checkpoint(source: LoadedModel, runs_dir: Path) -> Write:
    """Export a checkpoint of this program that contains only a PEFT adapter, with the location and hash of its base.

    Args:
        source: model with the merged adapter.
        runs_dir: folder of all runs, for a base model that is `latest`.

    Raises:
        UserError: if there is no tokenizer.
    """
    adapter = _adapter_of(source)
    task = source.task | {ADAPTER: adapter.to_plain()}
    base = load_pretrained(adapter.base, LoadOptions(runs_dir)).model
    tokenizer = source.description().tokenizer
    description = Description(base.config, tokenizer, source.run_config, task, source.eos_token_ids)

    def write(check: Check, model: GPT2, path: Path) -> None:
        tensors = adapter.tensors() | ({} if source.score is None else {SCORE: source.score})
        files.write({"state_dict": tensors, KEY: description.to_plain()}, path)
        check_in_peft(check, Path(source.location), adapter, base, source.score)
        check_alone(check, load_pretrained(str(path), LoadOptions(runs_dir)))
        check.lines.append(f"  only the adapter: it needs {adapter.base}, like a run with lora=")

    return write


def _score(source: LoadedModel, model: GPT2) -> dict[str, Tensor]:
    """Return the head of a classifier in the model's dtype; empty for a language model."""
    return {} if source.score is None else {SCORE: source.score.to(model.wte.weight.dtype)}


def _adapter_of(source: LoadedModel) -> TrainedAdapter:
    if source.adapter is None:
        raise UserError(f"{source.location} has no LoRA adapter; to=peft is for a run that was fine-tuned with lora=")
    return source.adapter


def _task_for_transformers(source: LoadedModel) -> LabelTask:
    """Return the task of a classifier, if GPT2ForSequenceClassification can express it."""
    source.classifier()  # raises if head and labels do not match
    task = LabelTask.from_plain(source.task)
    if task.kind.problem_type is None:
        raise UserError(
            f"{source.location} is a classifier with label_kind={task.label_kind}, which GPT2ForSequenceClassification "
            "does not have; write a file for this program with to=gpt2_lightning"
        )
    if task.pooling != "last":
        what = {"first": "first token of a text", "mean": "mean over a text"}[task.pooling]
        raise UserError(
            f"{source.location} is a classifier that reads the {what}, and GPT2ForSequenceClassification reads the "
            "last token, so its predictions would differ. Fine-tune one with task.reads=last, or write a file for "
            "this program with to=gpt2_lightning"
        )
    return task


def name_on_the_hub(path: str) -> str | None:
    """Return the name in `hf:NAME@REVISION`; None for other locations."""
    return path.removeprefix(hub.SCHEME).partition("@")[0] if path.startswith(hub.SCHEME) else None
