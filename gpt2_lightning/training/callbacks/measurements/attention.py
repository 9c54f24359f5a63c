"""Attention of all heads during training: scores for the loggers, and plots."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.inspection.attention.reading import attention_weights
from gpt2_lightning.inspection.attention.scores import SCORES, head_scores, repeated_sequence
from gpt2_lightning.settings import NonEmpty, PositiveInt, checked
from gpt2_lightning.training.callbacks.measurements.evaluation_mode import evaluating, language_model_of
from gpt2_lightning.training.callbacks.stopping.step_limit import is_last_step
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.loggers import Guarded, RunLogger
from gpt2_lightning.training.loggers.csv_logger import CSVLogger
from gpt2_lightning.training.performance.compilation import as_written

log = logging.getLogger(__name__)

FILE, PICTURES = "attention.csv", "attention"
REPEATED = "repeated"
_COLUMNS = ["step", "text", "layer", "head", *SCORES]
_BEGINNING = 64
"""Tokens of the validation text to measure if no prompt is given."""


class Attention(L.Callback):
    """Log the scores of all attention heads every n steps, and plot their attention weights.

    The inputs are a repeated sequence of random tokens, on which heads are comparable at any step and between models,
    and some texts. `attention.csv` contains every score of every head on each input. Loggers receive the scores on the
    repeated sequence, as `attention/induction/L0H3` and so on, and the maximum over all heads as
    `attention/induction/max`; `metrics.csv` contains the maximum only. Plots are written to the folder `attention` and
    logged.

    The model and the random state of training are unchanged. Scores are computed on rank zero.

    Args:
        run_dir: the run's folder.
        every_n_steps: optimizer steps between two measurements. The last step is always measured.
        pictures_every_n_steps: optimizer steps between two sets of plots, which take longer than scores; None for no
            plots. The last step is always plotted.
        prompts: input texts, of which the last tokens that fit into the context are used; None for the beginning of
            the validation text, if the run trains on a text.

    Raises:
        ValueError: if a number is below 1, or a prompt is empty.
    """

    @checked
    def __init__(
        self,
        run_dir: Path,
        every_n_steps: PositiveInt = 100,
        pictures_every_n_steps: PositiveInt | None = 2000,
        prompts: list[NonEmpty] | None = None,
    ) -> None:
        self.file, self.folder = run_dir / FILE, run_dir / PICTURES
        self.every_n_steps, self.pictures_every_n_steps = every_n_steps, pictures_every_n_steps
        self.prompts = prompts
        self._texts: dict[str, Tensor] = {}
        self._last_seen_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose the input texts, and drop rows and plots of steps that a resumed run repeats.

        Raises:
            UserError: if a prompt has characters that the tokenizer lacks.
        """
        assert isinstance(pl_module, TrainingModule)
        self._texts = self._chosen_texts(pl_module)
        self._last_seen_step = trainer.global_step
        if trainer.is_global_zero:
            _drop_rows_after(self.file, trainer.global_step)
            for picture in self.folder.glob("step-*.png"):
                if int(picture.name.split("-")[1]) > trainer.global_step:
                    picture.unlink()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = trainer.global_step
        is_drawn = self.pictures_every_n_steps is not None and _is_due(trainer, self.pictures_every_n_steps)
        if not (stepped and (is_drawn or _is_due(trainer, self.every_n_steps))):
            return
        assert isinstance(pl_module, TrainingModule)
        with pl_module.full_model() as whole:
            if whole is None:
                return  # rank zero has the unsharded model
            network = language_model_of(whole)
            with evaluating(network), as_written():
                weights = {name: attention_weights(network, ids) for name, ids in self._texts.items()}
        scores = {name: head_scores(weights[name], ids) for name, ids in self._texts.items()}
        _add_rows(self.file, trainer.global_step, scores)
        if REPEATED in scores:
            _log_scores(trainer, pl_module, scores[REPEATED])
        if is_drawn:
            self._draw(trainer, weights)

    def _chosen_texts(self, module: TrainingModule[Any, Any]) -> dict[str, Tensor]:
        """Return the ids (T,) of the input texts by name."""
        shape, tokenizer = language_model_of(module).config, module.description.tokenizer
        texts = {REPEATED: repeated_sequence(shape.vocab_size, shape.block_size)[0]}
        if self.prompts is None and isinstance(module.data, TokenDataModule):
            validation = module.data.corpora[0].val
            length = min(_BEGINNING, shape.block_size, len(validation))
            texts["validation"] = torch.from_numpy(validation.slice(0, length))
        for number, prompt in enumerate(self.prompts or []):
            texts[f"prompt-{number}"] = ids = prompt_ids(prompt, tokenizer)
            if len(ids) > shape.block_size:
                log.info(
                    "callbacks.attention.prompts: number %d has %s tokens and the context %s: its last ones are read",
                    number,
                    f"{len(ids):,}",
                    f"{shape.block_size:,}",
                )
        return {name: ids[-shape.block_size :] for name, ids in texts.items() if len(ids)}

    def _draw(self, trainer: L.Trainer, weights: Mapping[str, Tensor]) -> None:
        from gpt2_lightning.inspection.attention.plots import draw_model

        for name, of_text in weights.items():
            stem = self.folder / f"step-{trainer.global_step:06d}-{name}"
            try:
                self.folder.mkdir(exist_ok=True)
                draw_model(of_text.numpy(), f"{name}, step {trainer.global_step:,}", stem, suffixes=(".png",))
            except OSError as error:
                raise UserError(f"the folder {self.folder} cannot be written: {error.strerror}") from None
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    logger.log_picture(f"attention/{name}", stem.with_suffix(".png"), trainer.global_step)


def _is_due(trainer: L.Trainer, interval: int) -> bool:
    return is_last_step(trainer) or trainer.global_step % interval == 0


def _log_scores(trainer: L.Trainer, module: TrainingModule[Any, Any], scores: Mapping[str, Tensor]) -> None:
    """Log scores (L, H) to every logger; `metrics.csv`, where each key is a column, receives the maximum only."""
    place: dict[str, float] = {"tokens": module.data.tokens_seen, "epoch": module.data.epochs_seen}
    largest = {f"attention/{name}/max": float(score.max()) for name, score in scores.items()}
    of_heads = {
        f"attention/{name}/L{layer}H{head}": value
        for name, score in scores.items()
        for layer, row in enumerate(score.tolist())
        for head, value in enumerate(row)
    }
    for logger in trainer.loggers:
        written_by = logger.logger if isinstance(logger, Guarded) else logger
        more = {} if isinstance(written_by, CSVLogger) else of_heads
        logger.log_metrics({**place, **largest, **more}, step=trainer.global_step)


def _add_rows(file: Path, step: int, scores: Mapping[str, Mapping[str, Tensor]]) -> None:
    rows: list[Sequence[Any]] = [] if file.exists() else [_COLUMNS]
    for text, by_name in scores.items():
        of_heads = torch.stack([by_name[name] for name in SCORES], dim=-1).tolist()  # (L, H, scores)
        rows += [
            [step, text, layer, head, *(f"{value:.6g}" for value in values)]
            for layer, heads in enumerate(of_heads)
            for head, values in enumerate(heads)
        ]
    try:
        with file.open("a", newline="", encoding="utf-8") as opened:
            csv.writer(opened, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise UserError(f"the file {file} cannot be written: {error.strerror}") from None


def _drop_rows_after(file: Path, step: int) -> None:
    """Drop the rows after a step, and a last row that a crash truncated."""
    if not file.exists():
        return
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    first, *rows = whole.splitlines() or [",".join(_COLUMNS)]
    kept = [row for row in rows if int(row.partition(",")[0]) <= step]
    write_text(file, "".join(f"{line}\n" for line in (first, *kept)), durable=False)
