"""The verb `convert`: checkpoints from one program to another, held to the same logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gpt2_lightning.app.conversion import exporters as writing
from gpt2_lightning.app.conversion.verify import Check
from gpt2_lightning.app.output.atomic import mend, replacing
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.safetensors_files import parse_size
from gpt2_lightning.huggingface.weights import name_of, recast
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import OURS, PEFT, LoadedModel

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
    """A run, a checkpoint of ours, nanoGPT's or minGPT's, a folder of Hugging Face's or PEFT's, or
    `hf:NAME@REVISION`."""
    base: str | None
    """The model that a LoRA adapter was trained on, if it was moved; a source as well."""
    target: str
    """The folder or file to write."""
    to: Literal["huggingface", "peft", "gpt2_lightning"] | None
    """What to write; null for a model's folder from one of our checkpoints, and for one of ours from anything else."""
    base_name: str | None
    """What a PEFT adapter calls its base; null for its place."""
    dtype: Literal["fp32", "fp16", "bf16"] | None
    """What to round the weights to; null to keep them as they are."""
    tokenizer_from: str | None
    """`gpt2`, a folder with tokenizer.json, or a text whose characters are the tokens; null for the source's own."""
    n_head: int | None
    """Attention heads, for minGPT's state dicts that do not tell."""
    max_shard_size: str
    """Size of a safetensors file, at most, such as 500MB or 5GB."""
    overwrite: bool
    """Whether a target that exists is replaced, once the new one is verified."""

    def __post_init__(self) -> None:
        faults = [f"{name}: it is empty; name one" for name in ("source", "target") if not getattr(self, name)]
        if self.n_head is not None and self.n_head < 1:
            faults.append(f"n_head: {self.n_head} is out of range, 1 or more is allowed")
        if self.to != "peft" and self.base_name is not None:
            faults.append("base_name: it is written with to=peft alone; leave it out, or name the model with base=")
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
    mend(target)
    if target.exists() and not config.overwrite:
        raise UserError(f"target: {display_path(target)} exists; name another, or add overwrite=true to replace it")
    runs_dir = Path(config.runs_dir).expanduser()
    source = load_pretrained(
        config.source, LoadOptions(runs_dir, config.base, config.tokenizer_from, config.n_head, key="source")
    )
    to = config.to or ("huggingface" if source.program == OURS else "gpt2_lightning")
    _require_replaceable(target, to)
    if config.dtype and (to == "peft" or (to == "gpt2_lightning" and source.program == PEFT)):
        raise UserError(f"dtype: {config.dtype} does not fit an adapter, which is written as it is; leave it out")
    if to == "peft":
        write = writing.peft_adapter(source, config.base_name, runs_dir)
    elif to == "huggingface":
        write = writing.huggingface_folder(source, parse_size(config.max_shard_size), target.name)
    elif source.program == PEFT:
        write = writing.adapter_checkpoint(source, runs_dir)
    else:
        write = writing.checkpoint(source)
    _describe(source)

    check = Check(source)
    check.reading()
    model = check.rounding(source.model if config.dtype is None else recast(source.model, _DTYPES[config.dtype]))
    with replacing(target, "target") as temporary:
        write(check, model, temporary)
    _list(target)
    print("\n".join(check.lines))


def _require_replaceable(target: Path, to: str) -> None:
    """Refuse to replace what is not of the kind that will be written."""
    if not target.exists():
        return
    if to == "gpt2_lightning":
        if target.is_dir():
            raise UserError(f"target: {target} is a folder, and a checkpoint is a file; name one in it")
        if not files.may_be_one(target):
            raise UserError(f"target: {target} is no checkpoint, so it is not replaced; name another file")
        return
    if not target.is_dir():
        raise UserError(f"target: {target} is a file, and a model of Hugging Face's is a folder; name another")
    if strangers := (adapters if to == "peft" else folder).strangers(target):
        raise UserError(
            f"target: {target} holds {', '.join(strangers[:5])}, which no conversion wrote, so it is not replaced; "
            "name another folder"
        )


def _describe(source: LoadedModel) -> None:
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


def _list(target: Path) -> None:
    written = sorted(target.iterdir()) if target.is_dir() else [target]
    print(f"wrote {display_path(target)}, {_size(sum(file.stat().st_size for file in written))}")
    for file in written if target.is_dir() else []:
        print(f"  {file.name:30} {_size(file.stat().st_size):>12}")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 10**6 else f"{count:,} bytes"
