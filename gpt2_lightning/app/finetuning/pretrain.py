"""Continued pre-training on raw text."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.context import Beginning
from gpt2_lightning.app.run.corpora import corpus_of, token_data
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_start, summarize
from gpt2_lightning.training.language_modeling import LanguageModeling


@dataclass(frozen=True)
class Pretrain:
    """The next token of a text, with the tokenizer that the model has."""

    def job(self, beginning: Beginning) -> TrainingJob:
        """What to train."""
        corpus = corpus_of(beginning.config.data, beginning.cache_dir)
        data = token_data(
            corpus,
            beginning.tokenizer,
            beginning.cache_dir,
            beginning.architecture.block_size,
            beginning.config,
            beginning.micro_batch_size(),
        )
        description = beginning.describe({})

        def make_module() -> LanguageModeling:
            model = beginning.model()
            beginning.adapt(model)
            return LanguageModeling(model, *beginning.optimizer_and_schedule(), description)

        return TrainingJob(data, description, beginning.architecture.block_size, make_module, _begin, summarize)


def _begin(run: Run) -> None:
    print_parameters(run.task.model)
    describe_start(run)
