"""The verb `convert`: checkpoints from one program to another, held to the same logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gpt2_lightning.app import runs
from gpt2_lightning.app.conversion_check import Check
from gpt2_lightning.app.replacing import replacing
from gpt2_lightning.app.sources import OURS, Source, open_source
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import weights_alone
from gpt2_lightning.checkpoints.folder import run_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.language import perplexity
from gpt2_lightning.huggingface import folder
from gpt2_lightning.huggingface.card import Card
from gpt2_lightning.huggingface.safetensors_files import parse_size
from gpt2_lightning.huggingface.weights import name_of, recast
from gpt2_lightning.inspection.curves import read_points
from gpt2_lightning.model.size import count_parameters

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Config:
    """The top level of `conf/convert.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    runs_dir: str
    """Folder of all runs, for `source=latest`."""
    source: str
    """A run, a checkpoint of ours, nanoGPT's or minGPT's, a folder of Hugging Face's, or `hf:NAME@REVISION`."""
    target: str
    """The folder or file to write."""
    to: Literal["huggingface", "gpt2_lightning"] | None
    """What to write; null for a folder from one of our checkpoints, and for one of ours from anything else."""
    dtype: Literal["fp32", "fp16", "bf16"] | None
    """What to round the weights to; null to keep them as they are."""
    tokenizer_from: str | None
    """`gpt2`, a folder with tokenizer.json, or a text whose characters are the tokens; null for the source's own."""
    n_head: int | None
    """Attention heads, for minGPT's state dicts that do not tell."""
    max_shard_size: str
    """Size of a safetensors file, at most, such as 500MB or 5GB."""
    approximate: bool
    """Whether to convert what can be expressed only nearly, which is refused otherwise."""
    overwrite: bool
    """Whether a target that exists is replaced, once the new one is verified."""

    def __post_init__(self) -> None:
        faults = [f"{name}: it is empty; name one" for name in ("source", "target") if not getattr(self, name)]
        if self.n_head is not None and self.n_head < 1:
            faults.append(f"n_head: {self.n_head} is out of range, 1 or more is allowed")
        try:
            parse_size(self.max_shard_size)
        except ValueError as error:
            faults.append(f"max_shard_size: {error}")
        if faults:
            raise ValueError("\n".join(faults))


def run(plain: dict[str, Any]) -> None:
    """Convert, verify, and only then put the result in its place; say what was compared."""
    config = Config(**plain)
    target = Path(config.target).expanduser().resolve()
    if target.exists() and not config.overwrite:
        raise UserError(f"target: {runs.shown(target)} exists; name another, or add overwrite=true to replace it")
    source = open_source(config.source, Path(config.runs_dir).expanduser(), config.tokenizer_from, config.n_head)
    to = config.to or ("huggingface" if source.program == OURS else "gpt2_lightning")
    _require_replaceable(target, to)
    description = source.description() if to == "gpt2_lightning" else None
    _describe(source)

    check = Check(source)
    check.reading(config.approximate)
    model = check.rounding(source.model if config.dtype is None else recast(source.model, _DTYPES[config.dtype]))
    with replacing(target) as temporary:
        if description is None:
            card = Card(target.name, source.run_config, _figures(source))
            text = card.text(model, source.tokenizer)
            folder.write(model, source.tokenizer, temporary, text, parse_size(config.max_shard_size))
            check.folder(temporary, model, source.tokenizer)
        else:
            files.write(weights_alone(model, description), temporary)
            check.checkpoint(temporary, model)
    _list(target)
    print("\n".join(check.lines))


def _require_replaceable(target: Path, to: str) -> None:
    """Refuse to replace what is not of the kind that will be written."""
    if not target.exists():
        return
    if to == "gpt2_lightning" and target.is_dir():
        raise UserError(f"target: {target} is a folder, and a checkpoint is a file; name one in it")
    if to == "huggingface" and not target.is_dir():
        raise UserError(f"target: {target} is a file, and a model of Hugging Face's is a folder; name another")
    if to == "huggingface" and (strangers := folder.strangers(target)):
        raise UserError(
            f"target: {target} holds {', '.join(strangers[:5])}, which no conversion wrote, so it is not replaced; "
            "name another folder"
        )


def _describe(source: Source) -> None:
    config = source.model.config
    print(
        f"read {source.place}: {source.program}, {count_parameters(config):,} parameters, "
        f"{name_of(source.model.wte.weight.dtype)}, {config.n_layer} layers, {config.n_head} heads, width "
        f"{config.n_embd}, context {config.block_size}, vocabulary {config.vocab_size}"
    )
    kind = source.tokenizer.kind if source.tokenizer else "none is known; none is written"
    print(f"  tokenizer: {kind}")
    for note in source.notes:
        print(f"  {note}")


def _figures(source: Source) -> dict[str, str]:
    """What the run's metrics say of the checkpoint's step."""
    run = None if source.checkpoint is None else run_of(source.checkpoint)
    if run is None or source.step is None:
        return {}
    from gpt2_lightning.training.csv_logger import FILE as METRICS

    if not (run / METRICS).is_file():
        return {}
    at_step = {
        key: dict(zip(*read_points(run / METRICS, key), strict=True)).get(source.step)
        for key in ("tokens", "train/loss", "val/loss")
    }
    tokens, training, validation = at_step.values()
    figures = {"optimizer steps": f"{source.step:,}"}
    if tokens is not None:
        figures["tokens trained on"] = f"{tokens:,.0f}"
    if training is not None:
        figures["training loss, nats per token"] = f"{training:.4f}"
    if validation is not None:
        figures["validation loss, nats per token"] = f"{validation:.4f}"
        figures["validation perplexity, per token"] = f"{perplexity(validation):.2f}"
    return figures


def _list(target: Path) -> None:
    written = sorted(target.iterdir()) if target.is_dir() else [target]
    print(f"wrote {runs.shown(target)}, {_size(sum(file.stat().st_size for file in written))}")
    for file in written if target.is_dir() else []:
        print(f"  {file.name:30} {_size(file.stat().st_size):>12}")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 10**6 else f"{count:,} bytes"
