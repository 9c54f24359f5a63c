"""Classification of texts."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2_lightning.app.config import build
from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.classifier_head import continued_head
from gpt2_lightning.app.finetuning.classifier_report import evaluate, log_texts
from gpt2_lightning.app.finetuning.context import FinetuneContext
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_model, describe_plan
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.data.tables import LabeledTexts
from gpt2_lightning.errors import UserError
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model.classifier import Classifier, Pooling
from gpt2_lightning.settings import BelowOne, Settings
from gpt2_lightning.training.classification import Classification, ClassWeights, class_weights


@dataclass(frozen=True)
class Classify(Settings):
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
    token_dropout: BelowOne = 0.0
    """Share of a text's tokens that are left out while it is learned, by chance and anew each time."""
    label_smoothing: BelowOne = 0.0
    """Share of each answer that is spread over all classes, against too much certainty; for one class a text."""

    def job(self, context: FinetuneContext) -> TrainingJob:
        """See `Task`.

        Raises:
            UserError: if the data are no labeled texts, or do not fit.
        """
        settings = context.settings
        table = build.make(settings.data)
        if not isinstance(table, LabeledTexts):
            raise UserError(
                f"data: {type(table).__name__} has no labels; choose labeled texts with task=classify, such as "
                "data=sms_spam or data=table"
            )
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
