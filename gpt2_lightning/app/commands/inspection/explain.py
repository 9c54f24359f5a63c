"""The verb `explain`: attribution of a classifier's output to tokens, as JSON, an HTML page and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.result_folder import free_folder, leave
from gpt2_lightning.app.reports.attribution import OUTPUT_FILES, AttributionReport
from gpt2_lightning.app.reports.input_texts import InputTexts
from gpt2_lightning.app.reports.predictions import named
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.errors import UserError, did_you_mean, listed
from gpt2_lightning.evaluation.predictions import predict, predictions_of
from gpt2_lightning.inspection.attribution.deletion import attribute
from gpt2_lightning.inspection.attribution.export import AttributedText
from gpt2_lightning.inspection.attribution.methods import Output
from gpt2_lightning.inspection.token_labels import text_labels
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.pretrained.devices import device_of
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.settings import FreeText, PathText
from gpt2_lightning.tokenizers import Tokenizer

_QUOTED = 3


@dataclass(frozen=True, kw_only=True)
class Config(InputTexts):
    """The top level of `conf/explain.yaml`.

    Raises:
        ValueError: if settings are out of range or do not fit each other; the message lists all faults.
    """

    label: Annotated[str, FreeText()] | None = None
    """The label whose evidence is attributed; null for the most probable label of each text."""
    pictures: bool = True
    """Whether to write plots beside the JSON and the page."""
    output: Annotated[PathText, MinLen(1)] = "explanation"
    """The output folder."""
    overwrite: bool = False
    """Not needed: an output folder of this verb is replaced in any case. For commands of earlier versions."""


def run(plain: dict[str, Any]) -> None:
    """Compute attributions, write the output folder, and print a summary.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    output = free_folder(config.output, OUTPUT_FILES)
    given = config.read()
    source = load_pretrained(config.checkpoint, LoadOptions(Path(config.runs_dir).expanduser(), config.base))
    classifier, task = source.classifier().float(), LabelTask.from_plain(source.task)
    if config.label is not None:
        _require_label(config.label, task, source.location)
    for note in (f"from {source.location}", *source.notes):
        print(note)
    texts = _attributable(given, source.description().tokenizer, task)
    explained = list(_attribute_all(texts, classifier.to(device_of(config.device)), source, task, config))
    result = AttributionReport(explained, _name(source), task)
    leave(result, output, config.pictures)


def _require_label(label: str, task: LabelTask, place: str) -> None:
    if not task.labels:
        raise UserError(f"label: {place} answers with a number and has no labels; leave label out")
    if label not in task.labels:
        raise UserError(
            f"label: {place} has no label '{label}', it has {listed(task.labels)}{did_you_mean(label, task.labels)}"
        )


def _attributable(texts: list[str], tokenizer: Tokenizer, task: LabelTask) -> list[str]:
    """Return the texts of at least two tokens; truncated and omitted texts are reported.

    Raises:
        UserError: if no text remains, or one cannot be encoded.
    """
    encoded = EncodedTexts(texts, tokenizer, task.truncation, task.add_prefix_space)
    if note := tokenizer.take_note():
        print(note)
    if encoded.n_cut:
        which = "the text is" if len(texts) == 1 else f"{encoded.n_cut:,} of {len(texts):,} texts are"
        print(
            f"{which} longer than the truncation of this classifier, {task.truncation} tokens: the first "
            f"{task.truncation} are attributed"
        )
    short = [text for text, length in zip(texts, encoded.lengths, strict=True) if length < 2]
    reason = "attribution needs 2 or more tokens, and there is 1"
    if len(short) == len(texts):
        raise UserError(f"{'text' if len(texts) == 1 else 'texts'}: {_quoted(short)}: {reason}; take a longer text")
    if short:
        print(f"left out {_quoted(short)}: {reason}")
    return [text for text, length in zip(texts, encoded.lengths, strict=True) if length > 1]


def _quoted(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _QUOTED} more" if len(texts) > _QUOTED else ""
    return ", ".join(repr(text) for text in texts[:_QUOTED]) + more


def _attribute_all(
    texts: Sequence[str], classifier: Classifier, source: LoadedModel, task: LabelTask, config: Config
) -> Iterator[AttributedText]:
    """Attribute each text."""
    tokenizer = source.description().tokenizer
    encoded = EncodedTexts(texts, tokenizer, task.truncation, task.add_prefix_space)
    outputs = predict(classifier, encoded, task.kind, config.batch_size)
    for row, answer in enumerate(predictions_of(texts, outputs, task)):
        ids = encoded.batch(np.array([row]))[0][0]
        print(f"text {row + 1} of {len(texts)}: {len(ids)} tokens")
        label = config.label or max(answer.probabilities, key=answer.probabilities.__getitem__, default=None)
        index = 0 if label is None else task.labels.index(label)
        yield AttributedText(
            text=answer.text,
            tokens=text_labels(ids.tolist(), tokenizer),
            n_left_out=int(encoded.left_out[row]),
            answer=named(answer),
            label=label,
            result=attribute(Output(classifier, task.kind, index, config.batch_size), ids),
        )


def _name(source: LoadedModel) -> str:
    return source.location if source.checkpoint is None else display_path(source.checkpoint)
