"""Selection of trainable parameters: full fine-tuning, frozen layers, or a LoRA adapter."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rich import get_console
from rich.table import Table
from torch import nn

from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.freezing import Freeze, count_trainable, freeze, parameter_table
from gpt2_lightning.model.lora.layers import LoRASpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NoLoRA:
    """Option `lora=none`: no adapter."""


def adapt(model: GPT2 | Classifier, lora: LoRASpec | NoLoRA, how: Freeze, n_blocks: int) -> None:
    """Freeze parameters in place, or add a LoRA adapter; the head of a classifier is always trained.

    Args:
        model: the model.
        lora: settings of the adapter; with one, the weights of the base model are frozen.
        how: parameters to freeze without an adapter.
        n_blocks: number of blocks, for `first_n_blocks` and `last_n_blocks`.

    Raises:
        UserError: if the model has too few blocks.
    """
    if isinstance(lora, LoRASpec):
        add_lora(model.transformer if isinstance(model, Classifier) else model, lora)
        return
    try:
        freeze(model, how, n_blocks)
    except ValueError as error:
        raise UserError(f"freeze_blocks: {error}") from None


def print_parameters(model: nn.Module) -> None:
    """Print a table of the numbers of trained and frozen parameters."""
    table = Table("", "trained", "frozen")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = parameter_table(model)
    for row in rows:
        table.add_row(row.module, f"{row.trained:,}", f"{row.frozen:,}")
    total = sum(row.trained + row.frozen for row in rows)
    trained = count_trainable(model)
    table.add_section()
    table.add_row("together", f"{trained:,}", f"{total - trained:,}")
    get_console().print(table)
    log.info("trained: %s of %s parameters (%.2f %%)", f"{trained:,}", f"{total:,}", 100 * trained / total)
