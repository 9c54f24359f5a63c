"""The verb `convert`: conversion of checkpoints between programs, verified by comparing logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.conversion.convert import Format, Target, convert
from gpt2_lightning.huggingface.weight_files import parse_size
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel
from gpt2_lightning.settings import FreeText, PathText, PositiveInt, Rule, Settings, relation


class _Size(Rule):
    """A size in bytes with its unit."""

    def fault(self, value: str) -> str | None:
        try:
            parse_size(value)
        except ValueError as error:
            return str(error)
        return None


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/convert.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `source=latest`."""
    source: Annotated[PathText, MinLen(1)]
    """A run, a checkpoint of this program, nanoGPT or minGPT, a Hugging Face or PEFT folder, or `hf:NAME@REVISION`."""
    base: PathText | None = None
    """The base model of a LoRA adapter, as for `source`; null for the path in the adapter."""
    target: Annotated[PathText, MinLen(1)]
    """The folder or file to write."""
    to: Format | None = None
    """The format; null for a Hugging Face folder from a checkpoint of this program, and for a checkpoint otherwise."""
    base_name: Annotated[str, FreeText()] | None = None
    """Name of the base in a PEFT adapter; null for its location, unless that is a checkpoint file."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Data type of the converted weights; null to keep that of the source."""
    tokenizer_from: PathText | None = None
    """`gpt2`, a folder with tokenizer.json, or a text whose characters are the tokens; null for that of the source."""
    n_head: PositiveInt | None = None
    """Number of attention heads, for minGPT's state dicts, which do not contain it."""
    max_shard_size: Annotated[str, _Size()] = "5GB"
    """Largest size of a safetensors file, such as 500MB or 5GB."""
    overwrite: bool = False
    """Whether a target that exists is replaced, once the new one is verified."""

    @relation
    def _base_is_named_for_peft(self) -> Iterator[str]:
        if self.to != "peft" and self.base_name is not None:
            yield "base_name: it is written with to=peft alone; leave it out, or name the model with base="


def run(plain: dict[str, Any]) -> None:
    """Convert a model, and print the verification.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    runs_dir = Path(config.runs_dir).expanduser()
    target = Target(
        Path(config.target).expanduser().resolve(),
        config.overwrite,
        config.dtype,
        parse_size(config.max_shard_size),
        config.base_name,
        runs_dir,
    )
    target.require_free()
    source = load_pretrained(
        config.source, LoadOptions(runs_dir, config.base, config.tokenizer_from, config.n_head, key="source")
    )
    _describe(source)
    verified = convert(
        source, target, config.to or ("huggingface" if source.program == THIS_PROGRAM else "gpt2_lightning")
    )
    _list(target.path)
    print("\n".join(verified))


def _describe(source: LoadedModel) -> None:
    config = source.model.config
    print(
        f"read {source.location}: {source.program}, {count_parameters(config):,} parameters, "
        f"{dtype_name(source.model.wte.weight.dtype)}, {config.n_layer} layers, {config.n_head} heads, width "
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
