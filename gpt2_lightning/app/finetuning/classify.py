"""Classification of texts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import Tensor

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.best import take_best
from gpt2_lightning.app.finetuning.context import Beginning
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_model, describe_plan, list_files
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.data.tables import LabeledTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.classification.pages import write_report
from gpt2_lightning.evaluation.classification.predictions import predict
from gpt2_lightning.evaluation.classification.regression import RegressionReport, regression_report
from gpt2_lightning.evaluation.classification.report import ClassificationReport, report
from gpt2_lightning.model.classifier import Classifier, Pooling
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.training.classification import Classification, ClassWeights, class_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classify:
    """A label, several or a number for each text, from a linear layer on the features.

    Raises:
        ValueError: with every setting that is out of range.
    """

    reads: Pooling = "last"
    """What the head reads of a text."""
    add_prefix_space: bool = False
    """Whether a text that does not begin with a space gets one, so that its first word is the token that it is
    elsewhere."""
    class_weights: ClassWeights = "none"
    """How much each class counts in the loss."""
    token_dropout: float = 0.0
    """Share of a text's tokens that are left out while it is learned, by chance and anew each time."""
    label_smoothing: float = 0.0
    """Share of each answer that is spread over all classes, against too much certainty; for one class a text."""

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {getattr(self, name)} is out of range, 0 up to (not including) 1 is allowed"
            for name in ("token_dropout", "label_smoothing")
            if not 0 <= getattr(self, name) < 1
        ]
        if faults:
            raise ValueError("\n".join(faults))

    def job(self, beginning: Beginning) -> TrainingJob:
        """What to train.

        Raises:
            UserError: if the data are no labeled texts, or do not fit.
        """
        config = beginning.config
        table = build.make(config.data)
        if not isinstance(table, LabeledTexts):
            raise UserError(
                f"data: {type(table).__name__} has no labels; choose labeled texts with task=classify, such as "
                "data=sms_spam or data=table"
            )
        if self.label_smoothing and table.kind != "single":
            raise UserError(
                f"task.label_smoothing: {self.label_smoothing} has no meaning with data.kind={table.kind}; set it to 0"
            )
        splits = table.read()
        classes = table.classes(splits.train)
        block_size = beginning.architecture.block_size
        data = LabelDataModule(
            splits,
            beginning.tokenizer,
            classes,
            table.kind,
            block_size,
            config.samples_in_step(block_size),
            beginning.micro_batch_size(),
            config.seed,
            self.add_prefix_space,
        )
        labels = LabelTask(tuple(classes), table.kind, self.reads, block_size, self.add_prefix_space)
        head = _head_of(beginning.source, labels)
        description = beginning.describe(labels.to_plain())

        def make_task() -> Classification:
            model = Classifier(beginning.model(), labels.n_scores, self.reads)
            if head is not None:
                model.score.load_state_dict({"weight": head})
            beginning.adapt(model)
            weights = class_weights(self.class_weights, data)
            return Classification(
                model,
                *beginning.optimizer_and_schedule(),
                description,
                weights,
                self.token_dropout,
                self.label_smoothing,
            )

        def begin(run: Run) -> None:
            print_parameters(run.task.model)
            describe_model(run)
            _describe_texts(data)
            describe_plan(run)

        def finish(run: Run) -> None:
            _summarize(run, data, labels)

        return TrainingJob(
            data, description, block_size, make_task, begin, finish, excluded_callbacks=frozenset({"samples"})
        )


def _head_of(source: LoadedModel | None, labels: LabelTask) -> Tensor | None:
    """The head of a classifier that is trained further, (scores, C); None where a new one is made.

    Raises:
        UserError: if it was made for other labels, or reads another part of a text.
    """
    if source is None or source.score is None:
        return None
    old = LabelTask.from_plain(source.task)
    if (old.label_kind, old.labels) != (labels.label_kind, labels.labels):
        raise UserError(
            f"init_from: the head of {source.place} answers with {_answers(old)}, and the data have "
            f"{_answers(labels)}; give them its labels (data.kind, data.labels), or start from a model without a head"
        )
    if old.pooling != labels.pooling:
        raise UserError(
            f"task.reads: {labels.pooling}, but the head of {source.place} learned to read {old.pooling}; "
            f"set task.reads={old.pooling}"
        )
    if old.add_prefix_space != labels.add_prefix_space:
        raise UserError(
            f"task.add_prefix_space: {labels.add_prefix_space}, and the head of {source.place} has learned from texts "
            f"with {old.add_prefix_space}; set task.add_prefix_space={str(old.add_prefix_space).lower()}"
        )
    return source.score


def _answers(labels: LabelTask) -> str:
    if labels.label_kind == "regression":
        return "a number"
    kind = "one" if labels.label_kind == "single" else "any"
    return f"{kind} of {len(labels.labels)} labels ({', '.join(labels.labels)})"


def _describe_texts(data: LabelDataModule) -> None:
    parts = {"to train on": data.train, "to validate": data.val, "to test": data.test}
    log.info("texts:  %s", ", ".join(f"{len(part):,} {use}" for use, part in parts.items()))
    if data.classes:
        counts = data.class_counts().tolist()
        log.info("        %s", ", ".join(f"{n:,} {name}" for name, n in zip(data.classes, counts, strict=True)))
    for use, part in parts.items():
        if cut := part.texts.n_cut:
            share = 100 * cut / len(part)
            cut_texts = f"1 text {use} is" if cut == 1 else f"{cut:,} texts {use} are"
            log.info("        %s cut at %d tokens (%.1f %%)", cut_texts, data.block_size, share)


def _summarize(run: Run, data: LabelDataModule, labels: LabelTask) -> None:
    """Measure the best weights on the test part, or on the validation part where there is none."""
    name, part = ("test", data.test) if len(data.test) else ("validation", data.val)
    outputs = predict(take_best(run), part.texts, labels.label_kind, data.micro_batch_size)
    title = f"{run.folder.parent.name}: the {name} part, {len(part):,} texts"
    if labels.label_kind == "regression":
        found: RegressionReport | ClassificationReport = regression_report(part.rows, outputs)
    else:
        found = report(part.rows, outputs, labels.labels, labels.label_kind)
    write_report(found, title, run.folder)
    log.info("")
    log.info(
        "done: %.1f epochs; the best weights on the %s part of %s texts:", data.epochs_seen, name, f"{len(part):,}"
    )
    for figure, estimate in found.headline.items():
        log.info("  %-16s %s", figure.replace("_", " "), estimate)
    log.info("  %-16s %s", "report", f"{display_path(run.folder)}/report.md")
    list_files(run)
    where = display_path(run.folder)
    log.info("\nfor more: %s", command("predict", f"checkpoint={where}", "text=…"))
    log.info("          %s", command("convert", f"source={where}", "target=FOLDER"))
