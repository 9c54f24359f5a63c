"""Instruction tuning."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import get_console

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.best import load_best
from gpt2_lightning.app.finetuning.context import FinetuneContext
from gpt2_lightning.app.finetuning.preview import print_preview
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_model, describe_plan, list_files
from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.instruction.datamodule import InstructDataModule, Part
from gpt2_lightning.data.tables import Instructions
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.answers import answer, score, side_by_side
from gpt2_lightning.evaluation.language_metrics import perplexity
from gpt2_lightning.evaluation.responses import response_loss
from gpt2_lightning.generation import Sampling
from gpt2_lightning.inspection.preview import preview
from gpt2_lightning.settings import NonNegativeInt, PositiveInt, Settings
from gpt2_lightning.training.instruction_tuning import InstructionTuning

log = logging.getLogger(__name__)

ANSWERS = "answers.md"
"""File with answers before and after training, in the run's folder."""


@dataclass(frozen=True)
class Instruct(Settings):
    """Instruction tuning: responses to instructions that are formatted by a template.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    mask_prompt: bool = True
    """Whether the loss is computed on answers only, rather than on the whole text."""
    packing: bool = True
    """Whether to pack several examples into a row; tokens attend only to those of their own example."""
    preview: NonNegativeInt = 1
    """Number of rows to show before training, with the tokens that carry loss and the boundaries of examples."""
    answers: NonNegativeInt = 8
    """Number of held-out instructions to answer before and after training; 0 for none."""
    max_new_tokens: PositiveInt = 128
    """Maximum length of an answer in tokens."""

    def training_texts(self, settings: FinetuneSettings, cache_dir: Path) -> Iterator[str]:
        """See `Task`."""
        template = build.make(settings.template)
        for row in _table(settings).read().train:
            for segment in template.render(row.messages, row.alpaca):
                yield segment.text

    def job(self, context: FinetuneContext) -> TrainingJob:
        """See `Task`.

        Raises:
            UserError: if the data are not instructions, or do not fit the template.
        """
        settings = context.settings
        block_size = context.block_size
        data = InstructDataModule(
            _table(settings).read(),
            build.make(settings.template),
            context.tokenizer,
            block_size,
            context.batch_size,
            context.micro_batch_size(),
            settings.seed,
            self.mask_prompt,
            self.packing,
        )
        description = context.describe(data.task)

        def make_module() -> InstructionTuning:
            model = context.new_model()
            context.adapt(model)
            return InstructionTuning(model, *context.optimizer_and_schedule(), description)

        def on_start(run: Run) -> None:
            if self.preview:
                print_preview(preview(data.first_rows(self.preview), context.tokenizer, block_size), get_console())
            print_parameters(run.task.model)
            describe_model(run)
            for line in data.report():
                log.info("rows:   %s", line)
            describe_plan(run)

        def on_end(run: Run) -> None:
            self._summarize(run, data, context)

        return TrainingJob(
            data, description, block_size, make_module, on_start, on_end, excluded_callbacks=frozenset({"samples"})
        )

    def _summarize(self, run: Run, data: InstructDataModule, context: FinetuneContext) -> None:
        """Evaluate the best weights on held-out rows, and write their answers beside those before training."""
        part: Part = "test" if data.splits.test else "val"
        after = load_best(run)
        before = context.new_model().to(after.wte.weight.device).eval()
        batches = data.batches(part)
        losses = [response_loss(model, (batches[i] for i in range(len(batches)))).loss for model in (before, after)]
        log.info("")
        log.info("done: %s tokens, %.1f epochs; on the %s part:", f"{data.tokens_seen:,}", data.epochs_seen, part)
        log.info("  %-16s %.4f before, %.4f after", "response loss", *losses)
        log.info("  %-16s %.2f before, %.2f after", "perplexity", *map(perplexity, losses))
        if self.answers:
            asked = getattr(data.splits, part)[: self.answers]
            sampling = Sampling(max_new_tokens=self.max_new_tokens, temperature=0)
            answers = [answer(model, context.tokenizer, data.template, asked, sampling) for model in (before, after)]
            title = f"{run.folder.parent.name}: {len(asked)} held-out instructions"
            page = side_by_side(asked, answers[0], answers[1], title)
            write_text(run.folder / ANSWERS, page)
            references = [each.messages[-1].content for each in asked]
            scores = [score(each, references) for each in answers]
            for name, field in (("exact match", "exact_match"), ("ROUGE-L", "rouge_l"), ("ended by itself", "ended")):
                values = [100 * getattr(of_model, field) for of_model in scores]
                log.info("  %-16s %.1f %% before, %.1f %% after", name, *values)
            log.info("  %-16s %s", "answers", f"{display_path(run.folder)}/{ANSWERS}")
        list_files(run)
        where = display_path(run.folder)
        log.info("\nfor more: %s", command("generate", f"checkpoint={where}", "interactive=true"))
        log.info("          %s", command("convert", f"source={where}", "target=FOLDER"))


def _table(settings: FinetuneSettings) -> Instructions:
    table = build.make(settings.data)
    if not isinstance(table, Instructions):
        raise UserError(
            f"data: {type(table).__name__} has no instructions; choose such rows with task=instruct, as in "
            "data=instructions data.path=rows.json"
        )
    return table
