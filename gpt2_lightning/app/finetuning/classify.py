"""Classification of texts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gpt2_lightning.app import build, runs
from gpt2_lightning.app.adaptation import print_parameters
from gpt2_lightning.app.carry_out import Plan, Run
from gpt2_lightning.app.command_line import command
from gpt2_lightning.app.finetuning.beginning import Beginning
from gpt2_lightning.app.finetuning.best import take_best
from gpt2_lightning.app.summary import describe_model, describe_plan, list_files
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.label_datamodule import LabelDataModule
from gpt2_lightning.data.tables import LabelledTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.classification.pages import write_report
from gpt2_lightning.evaluation.classification.predictions import predict
from gpt2_lightning.evaluation.classification.regression import RegressionReport, regression_report
from gpt2_lightning.evaluation.classification.report import ClassificationReport, report
from gpt2_lightning.model.heads import Classifier, Reads
from gpt2_lightning.training.classification import Classification, ClassWeights, class_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classify:
    """A label, several or a number for each text, from a linear layer on the features."""

    reads: Reads = "last"
    """What the head reads of a text."""
    class_weights: ClassWeights = "none"
    """How much each class counts in the loss."""

    def plan(self, beginning: Beginning) -> Plan:
        """What to train.

        Raises:
            UserError: if the data are no labelled texts, or do not fit.
        """
        config = beginning.config
        table = build.make(config.data)
        if not isinstance(table, LabelledTexts):
            raise UserError(
                f"data: {type(table).__name__} has no labels; choose labelled texts with task=classify, such as "
                "data=sms_spam or data=table"
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
            config.batch_size,
            beginning.micro_batch_size(),
            config.seed,
        )
        labels = LabelTask(tuple(classes), table.kind, self.reads, block_size)
        description = beginning.describe(labels.to_plain())

        def make_task() -> Classification:
            model = Classifier(beginning.model(), labels.n_scores, self.reads)
            beginning.adapt(model)
            weights = class_weights(self.class_weights, data)
            return Classification(model, *beginning.optimizer_and_schedule(), description, weights)

        def begin(run: Run) -> None:
            print_parameters(run.task.model)
            describe_model(run)
            _describe_texts(data)
            describe_plan(run)

        def finish(run: Run) -> None:
            _summarise(run, data, labels)

        return Plan(data, description, block_size, make_task, begin, finish, without=frozenset({"samples"}))


def _describe_texts(data: LabelDataModule) -> None:
    parts = {"to train on": data.train, "to validate": data.val, "to test": data.test}
    log.info("texts:  %s", ", ".join(f"{len(part):,} {use}" for use, part in parts.items()))
    if data.classes:
        counts = data.class_counts().tolist()
        log.info("        %s", ", ".join(f"{n:,} {name}" for name, n in zip(data.classes, counts, strict=True)))
    for use, part in parts.items():
        if cut := part.texts.n_cut:
            share = 100 * cut / len(part)
            log.info("        %s texts %s are cut at %d tokens (%.1f %%)", f"{cut:,}", use, data.block_size, share)


def _summarise(run: Run, data: LabelDataModule, labels: LabelTask) -> None:
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
    log.info("  %-16s %s", "report", f"{runs.shown(run.folder)}/report.md")
    list_files(run)
    where = runs.shown(run.folder)
    log.info("\nfor more: %s", command("predict", f"checkpoint={where}", "text=…"))
    log.info("          %s", command("convert", f"source={where}", "target=FOLDER"))
