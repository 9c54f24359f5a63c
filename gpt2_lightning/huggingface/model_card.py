"""Model card (README.md) with the configuration and metrics of a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.tokenizers import Tokenizer

_GROUPS = (
    *("init_from", "task", "freeze", "lora", "data", "tokenizer", "batch_size", "seed", "optimizer", "schedule"),
    *("trainer", "weight_average"),
)
"""Groups of a run's configuration that describe the training; the architecture is taken from the model."""
_STATED_ELSEWHERE = ("steps", "best_val_loss")
"""Entries of a model's origin that the card states elsewhere."""
_SCRATCH = "scratch"
"""Value of `init_from` for a model with random weights, which has no tokenizer before training."""


@dataclass(frozen=True)
class Card:
    """Content of a model card."""

    name: str
    run_config: Mapping[str, Any]
    figures: Mapping[str, str] = field(default_factory=dict)
    """Formatted metrics by name."""
    head: LabelHead | None = None
    """Head of a classifier; None for a language model."""
    report: str = ""
    """Report of the run and results of benchmarks, as Markdown with headings of level 3."""
    question: str = ""
    """Rendered question of a model that was trained on instructions; empty for other models."""
    measured_in: str = ""
    """Dtype in which the metrics were measured."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the card's metadata, such as `model-index`."""

    def text(self, model: GPT2, tokenizer: Tokenizer | None) -> str:
        """Render the card as Markdown."""
        use = "text-generation" if self.head is None else "text-classification"
        what = "A GPT-2" if self.head is None else "A classifier of texts, a GPT-2"
        figures = [text for text in (_table(_figures_of(self._origin) | dict(self.figures)), self.report) if text]
        dtype = dtype_name(model.wte.weight.dtype)
        if figures and self.measured_in not in ("", dtype):
            figures.append(
                f"All of this was measured in {self.measured_in}, before the weights were rounded to {dtype}."
            )
        parts = [
            f"---\n{self._header(use)}---\n\n# {self.name}\n\n{what}, written by GPT-2 Lightning.",
            "\n\n".join(["## Model", _table(_architecture(model, tokenizer) | _answers(self.head))]),
            f"## Data and settings\n\n{_table(dict(self._settings())) or 'None are known.'}",
            "\n\n".join(["## Figures", *(figures or ["None are known."])]),
            f"## Use\n\n{_use(self.name, tokenizer, use, self.question)}",
        ]
        return "\n\n".join(parts) + "\n"

    def _header(self, use: str) -> str:
        """Return the metadata of the card, as YAML."""
        entries = {"library_name": "transformers", "pipeline_tag": use, "tags": ["gpt2"], **self.metadata}
        return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)

    @property
    def _origin(self) -> Mapping[str, Any]:
        """Origin of a model of another program."""
        origin = self.run_config.get("origin")
        return origin if isinstance(origin, Mapping) else {}

    def _settings(self) -> Iterator[tuple[str, str]]:
        brings_its_own = self.run_config.get("init_from", _SCRATCH) != _SCRATCH
        for group in _GROUPS:
            if group == "tokenizer" and brings_its_own:
                continue  # has no effect
            yield from _flat(group, self.run_config.get(group))
        yield from _flat("origin", {key: value for key, value in self._origin.items() if key not in _STATED_ELSEWHERE})


def _architecture(model: GPT2, tokenizer: Tokenizer | None) -> dict[str, str]:
    config = model.config
    return {
        "parameters": f"{count_parameters(config):,}",
        "layers": str(config.n_layer),
        "heads": str(config.n_head),
        "width": str(config.n_embd),
        "context, in tokens": f"{config.block_size:,}",
        "vocabulary": f"{config.vocab_size:,} tokens",
        "tokenizer": tokenizer.kind if tokenizer else "not known",
        "positions": config.positions,
        "dtype": dtype_name(model.wte.weight.dtype),
    }


def _figures_of(origin: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics recorded by the program that trained the model."""
    program = origin.get("program")
    shown = {}
    if (steps := origin.get("steps")) is not None:
        shown[f"optimizer steps in {program}"] = f"{steps:,}"
    if (loss := origin.get("best_val_loss")) is not None:
        shown[f"best validation loss in {program}, nats per token"] = f"{loss:.4f}"
    return shown


def _answers(head: LabelHead | None) -> dict[str, str]:
    if head is None:
        return {}
    classes = {"classes": ", ".join(head.labels)} if head.labels else {}
    return {
        "answers with": KINDS[head.kind].answers_with,
        **classes,
        "reads of a text, in tokens": f"{head.truncation:,}",
    }


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Flatten settings to dotted names. Paths are reduced to their last part, since the rest depends on the machine."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _flat(f"{key}.{name}", child)
    elif value is not None:
        is_path = isinstance(value, str) and Path(value).is_absolute()
        yield key, Path(value).name if is_path else str(value)


def _table(rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    cells = (f"| {name} | {_cell(value)} |" for name, value in rows.items())
    return "\n".join(["| | |", "| --- | --- |", *cells])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _use(name: str, tokenizer: Tokenizer | None, use: str, question: str) -> str:
    if tokenizer is None:
        return "The model has no tokenizer: it reads and writes ids."
    text = json.dumps(question or _readable_text(tokenizer), ensure_ascii=False)
    calls = {
        "text-generation": f'print(pipe({text})[0]["generated_text"])',
        "text-classification": f"print(pipe({text}, truncation=True, top_k=None))",
    }
    return f'```python\nfrom transformers import pipeline\n\npipe = pipeline("{use}", "{name}")\n{calls[use]}\n```'


def _readable_text(tokenizer: Tokenizer) -> str:
    """Return "The", or the first letter or digit of a vocabulary without it; empty if there is none."""
    tokens = (tokenizer.decode([token]) for token in range(tokenizer.vocab_size))
    texts = itertools.chain(["The"], (text for text in tokens if text.isalnum()))
    return next((text for text in texts if _reads(tokenizer, text)), "")


def _reads(tokenizer: Tokenizer, text: str) -> bool:
    return tokenizer.encodes(text) and tokenizer.decode(tokenizer.encode(text).tolist()).strip() == text
