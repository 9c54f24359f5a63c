"""Sample texts generated during training."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import lightning as L
from torch import Tensor

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.decoder import generate
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.settings import FreeText, NonNegativeFloat, PositiveInt, Seed, checked
from gpt2_lightning.training.language_modeling import LanguageModeling
from gpt2_lightning.training.loggers import RunLogger
from gpt2_lightning.training.performance.compilation import as_written

FILE = "samples.md"
_ENTRY = re.compile(r"(?=^## Step )", re.MULTILINE)


class Samples(L.Callback):
    """Generate a text at every validation, and add it to a Markdown file and the loggers.

    The random state of training is unchanged.

    Args:
        run_dir: the run's folder, for `samples.md`.
        prompt: prompt of each text; empty for a new line.
        max_new_tokens: length of each text in tokens.
        temperature: see `Sampling`.
        seed: random seed, the same for every text, so that texts differ by the weights only.
    """

    @checked
    def __init__(
        self,
        run_dir: Path,
        prompt: Annotated[str, FreeText()] = "",
        max_new_tokens: PositiveInt = 200,
        temperature: NonNegativeFloat = 0.8,
        seed: Seed = 0,
    ) -> None:
        self.file = run_dir / FILE
        self.prompt = prompt
        self.sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        self.latest = ""
        """Latest text."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop the entries of steps that a resumed run repeats.

        Raises:
            UserError: if the prompt has characters that the tokenizer lacks.
        """
        self._prompt_ids(pl_module)
        if trainer.is_global_zero and self.file.exists():
            entries = _ENTRY.split(self.file.read_text(encoding="utf-8"))
            kept = [entry for entry in entries if entry and _step_of(entry) <= trainer.global_step]
            write_text(self.file, "".join(kept), durable=False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModeling)
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            return  # the logits of a diverged model are not finite either
        tokenizer = pl_module.description.tokenizer
        with pl_module.full_model() as model, as_written():
            if model is None:
                return  # rank zero has the unsharded model
            ids = list(generate(model, self._prompt_ids(pl_module), self.sampling, tokenizer.end_of_text))
        self.latest = self.prompt + tokenizer.decode(ids)
        entry = (
            f"## Step {trainer.global_step:,}, validation loss {loss:.4f}\n\n~~~text\n{self.latest.strip()}\n~~~\n\n"
        )
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(entry)
        except OSError as error:
            raise UserError(f"the samples file {self.file} cannot be written: {error.strerror}") from None
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_text("samples", self.latest, trainer.global_step)

    def _prompt_ids(self, module: L.LightningModule) -> Tensor:
        assert isinstance(module, LanguageModeling)
        return prompt_ids(self.prompt, module.description.tokenizer).to(module.device)


def _step_of(entry: str) -> float:
    """Return the step of an entry: 0 for text before the first one, infinity for one that a crash truncated."""
    heading = re.match(r"## Step ([\d,]+), validation loss", entry)
    if heading:
        return int(heading[1].replace(",", ""))
    return math.inf if entry.startswith("## Step") else 0
