"""Table of settings: those of this package, and those that calls of transformers resolve to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt2_lightning.evaluation.parity import Ours, Padding, Report, Theirs
from gpt2_lightning.evaluation.parity.calls import CHOOSING, UNUSED, in_use
from gpt2_lightning.huggingface.config import activation_function
from gpt2_lightning.huggingface.weights import dtype_name

_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")


@dataclass(frozen=True)
class Row:
    """A row of the table: one setting."""

    cells: tuple[str, ...]
    """Name, our value, and the value of each call."""
    differs: bool


def settings_rows(report: Report, ours: Ours, theirs: Theirs, seed: int) -> Iterator[Row]:
    """Yield settings of sampling, then of the input, then of the network."""
    calls = report.calls
    our_settings, their_settings = in_use(report.our_settings), [in_use(call.settings) for call in calls]
    for key in CHOOSING:
        yield _row(key, our_settings[key], [settings[key] for settings in their_settings])
    yield Row(("pad_token_id", UNUSED, *(shown_value(call.settings["pad_token_id"]) for call in calls)), differs=False)
    yield Row(("seed", str(seed), *["torch's own"] * len(calls)), differs=bool(our_settings["do_sample"]))
    sides = [call.padding_side or "no tokenizer" for call in calls]
    yield Row(("padding", "right, own positions", *sides), differs=False)
    length = len(report.our_prompt) if report.their_prompt is None else len(report.their_prompt)
    yield _row("prompt tokens", len(report.our_prompt), [len(report.our_prompt), length][: len(calls)])
    config, their_config = ours.model.config, theirs.model.config
    of_network: dict[str, tuple[Any, Any]] = {
        "mode": ("evaluation", "training" if theirs.model.training else "evaluation"),
        "dropout in training": (
            " ".join(f"{getattr(config, name):g}" for name in _DROPOUTS),
            " ".join(f"{getattr(their_config, name):g}" for name in _DROPOUTS),
        ),
        "dtype": (dtype_name(ours.model.wte.weight.dtype), dtype_name(theirs.model.dtype)),
        "activation": (activation_function(config), their_config.activation_function),
        "layer_norm_epsilon": (config.layer_norm_epsilon, their_config.layer_norm_epsilon),
        "n_head": (config.n_head, their_config.n_head),
    }
    for name, (one, other) in of_network.items():
        yield _row(name, one, [other] * len(calls))


def loop_rows(padding: Padding) -> Iterator[Row]:
    """Yield the padding settings of a generation loop: name, correct value, and value of the loop."""
    cells = {
        "side": ("padding side", "left", padding.side),
        "attention_mask": ("attention mask", "padding is masked", "none"),
        "position_ids": ("position ids", "each text's own", "none, so padding is counted"),
    }
    slips = padding.slips()
    for field, (name, right, slip) in cells.items():
        yield Row((name, right, slip if field in slips else right), differs=field in slips)


def _row(name: str, ours: Any, theirs: list[Any]) -> Row:
    nothing = (None, UNUSED)
    differs = any(value != ours and not (value in nothing and ours in nothing) for value in theirs)
    return Row((name, *map(shown_value, (ours, *theirs))), differs)


def shown_value(value: Any) -> str:
    """Format a setting."""
    return "none" if value is None else str(value)
