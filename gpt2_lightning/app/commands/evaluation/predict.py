"""The verb `predict`: predictions of a classifier for new texts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import until_the_reader_stops
from gpt2_lightning.app.reports.input_texts import InputTexts
from gpt2_lightning.app.reports.prediction_scores import print_scores
from gpt2_lightning.app.reports.predictions import FORMATS, print_prediction, write_predictions
from gpt2_lightning.atomic_replace import replacing
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.predictions import predict, predictions_of
from gpt2_lightning.pretrained.devices import Quantization, device_of, placed, require_quantizable
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.settings import PathText, relation


@dataclass(frozen=True, kw_only=True)
class Config(InputTexts):
    """The top level of `conf/predict.yaml`.

    Raises:
        ValueError: if settings are out of range or do not fit each other; the message lists all faults.
    """

    label_column: str = "label"
    """The column of the true labels in a table that has them, for the scores of the predictions."""
    separator: str | None = None
    """Separator between the true classes of a text, if a cell contains them as one string."""
    quantize: Quantization = "none"
    """`int8` for int8 weights on a CPU; the head stays float32."""
    output: PathText | None = None
    """A .jsonl or .csv file; null for JSONL on standard output."""
    overwrite: bool = False
    """Whether an existing output is replaced."""

    @relation
    def _output_has_a_format(self) -> Iterator[str]:
        if self.output is not None and Path(self.output).suffix.lower() not in FORMATS:
            yield f"output: {self.output} must end in {' or '.join(FORMATS)}"


def run(plain: dict[str, Any]) -> None:
    """Print or write the predictions.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    output = None if config.output is None else Path(config.output).expanduser()
    if output is not None and output.exists() and not config.overwrite:
        raise UserError(f"output: {display_path(output)} exists; name another, or add overwrite=true to replace it")
    device = device_of(config.device)
    require_quantizable(config.quantize, device, None)
    rows = [(config.text, None)] if config.text is not None else config.table().read_with(config.label_column)
    texts = [text for text, _ in rows]
    found = load_pretrained(config.checkpoint, LoadOptions(Path(config.runs_dir).expanduser(), config.base))
    placed(found.model, device, None, config.quantize)
    classifier = found.classifier().to(device, found.model.wte.weight.dtype)
    task = LabelTask.from_plain(found.task)
    encoded = EncodedTexts(texts, found.description().tokenizer, task.truncation, task.add_prefix_space)
    for note in (f"from {found.location}", *found.notes):
        print(note, file=sys.stderr)
    if unknown := found.description().tokenizer.take_note():
        print(unknown, file=sys.stderr)
    if encoded.n_cut:
        print(
            f"{encoded.n_cut:,} of {len(texts):,} texts are longer than the {task.truncation} tokens that this "
            f"classifier reads: {encoded.share_cut:.1%} of all tokens are left out",
            file=sys.stderr,
        )
    outputs = predict(classifier, encoded, task.kind, config.batch_size)
    predictions = predictions_of(texts, outputs, task)
    with until_the_reader_stops():
        if output is not None:
            with (
                replacing(output.resolve(), "output") as temporary,
                temporary.open("w", encoding="utf-8", newline="") as file,
            ):
                write_predictions(predictions, task.labels, output.suffix.lower(), file)
            print(f"wrote {len(predictions):,} answers to {display_path(output)}")
        elif config.text is not None:
            print_prediction(predictions[0])
        else:
            write_predictions(predictions, task.labels, FORMATS[0], sys.stdout)
    print_scores(texts, [cell for _, cell in rows], outputs, task, config.separator, config.label_column)
