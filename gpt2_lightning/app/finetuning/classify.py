"""Fine-tuning for text classification and regression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.app.config import build
from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.classifier_head import continued_head
from gpt2_lightning.app.finetuning.classifier_report import evaluate, log_texts
from gpt2_lightning.app.finetuning.context import FinetuneContext
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_model, describe_plan
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.data.classification.encoded_texts import with_prefix_space
from gpt2_lightning.data.tables import LabeledTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model.classifier import Classifier, Pooling
from gpt2_lightning.settings import BelowOne, Settings
from gpt2_lightning.training.classification import Classification, ClassWeights, class_weights


@dataclass(frozen=True)
class Classify(Settings):
    """Single-label or multi-label classification, or regression, by a linear layer on the features.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    reads: Pooling = "last"
    """Pooling of the features for the head."""
    add_prefix_space: bool = False
    """Whether to prepend a space to texts without one, so that their first word has the same token as elsewhere."""
    class_weights: ClassWeights = "none"
    """Weight of each class in the loss."""
    token_dropout: BelowOne = 0.0
    """Probability of dropping a token of a training text, sampled anew at each use."""
    label_smoothing: BelowOne = 0.0
    """Label smoothing against overconfidence, for single-label classification."""

    def training_texts(self, settings: FinetuneSettings, cache_dir: Path) -> Iterator[str]:
        """See `Task`."""
        for row in _table(settings).read().train:
            yield with_prefix_space(row.text) if self.add_prefix_space else row.text

    def job(self, context: FinetuneContext) -> TrainingJob:
        """See `Task`.

        Raises:
            UserError: if the data are not labeled texts, or do not fit the settings.
        """
        settings = context.settings
        table = _table(settings)
        if self.label_smoothing and not KINDS[table.kind].is_exclusive:
            raise UserError(
                f"task.label_smoothing: {self.label_smoothing} has no meaning with data.kind={table.kind}; set it to 0"
            )
        splits = table.read()
        classes = table.classes(splits.train)
        block_size = context.block_size
        data = LabelDataModule(
            splits,
            context.tokenizer,
            classes,
            KINDS[table.kind],
            block_size,
            context.batch_size,
            context.micro_batch_size(),
            settings.seed,
            self.add_prefix_space,
        )
        labels = LabelTask(tuple(classes), table.kind, self.reads, block_size, self.add_prefix_space)
        head = continued_head(context.pretrained, labels)
        description = context.describe(labels.to_plain())

        def make_module() -> Classification:
            model = Classifier(context.new_model(), labels.n_scores, self.reads)
            if head is not None:
                model.score.load_state_dict({"weight": head})
            context.adapt(model)
            weights = class_weights(self.class_weights, data)
            return Classification(
                model,
                *context.optimizer_and_schedule(),
                description,
                weights,
                self.token_dropout,
                self.label_smoothing,
            )

        def on_start(run: Run) -> None:
            print_parameters(run.task.model)
            describe_model(run)
            log_texts(data)
            describe_plan(run)

        def on_end(run: Run) -> None:
            evaluate(run, data, labels)

        return TrainingJob(
            data, description, block_size, make_module, on_start, on_end, excluded_callbacks=frozenset({"samples"})
        )


def _table(settings: FinetuneSettings) -> LabeledTexts:
    table = build.make(settings.data)
    if not isinstance(table, LabeledTexts):
        raise UserError(
            f"data: {type(table).__name__} has no labels; choose labeled texts with task=classify, such as "
            "data=sms_spam or data=table"
        )
    return table
