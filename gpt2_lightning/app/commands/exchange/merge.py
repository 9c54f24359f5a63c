"""The verb `merge`: one checkpoint with the mean of the weights of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.atomic_replace import recover, replacing
from gpt2_lightning.checkpoints import files
from gpt2_lightning.conversion.merge import merge, sha256_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.settings import NonEmpty, PathText, PositiveFloat, Settings, relation


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/merge.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for a checkpoint that is `latest`."""
    checkpoints: Annotated[list[NonEmpty], MinLen(1)]
    """Two or more runs, checkpoints or Hugging Face folders of one architecture and tokenizer."""
    weights: list[PositiveFloat] | None = None
    """Weight of each in the mean, of which only the ratios count; null for equal ones."""
    output: Annotated[PathText, MinLen(1)]
    """The checkpoint to write."""
    overwrite: bool = False
    """Whether a checkpoint that exists is replaced, once the new one is verified."""

    @relation
    def _several(self) -> Iterator[str]:
        if len(self.checkpoints) == 1:
            yield f"checkpoints: {self.checkpoints[0]} is the only one; name two or more"

    @relation
    def _one_weight_each(self) -> Iterator[str]:
        if self.weights is not None and len(self.weights) != len(self.checkpoints):
            yield f"weights: there are {len(self.weights)}, and {len(self.checkpoints)} checkpoints; give one for each"


def run(plain: dict[str, Any]) -> None:
    """Merge models, and print the verification.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    output = Path(config.output).expanduser().resolve()
    _require_free(output, config.overwrite)
    options = LoadOptions(Path(config.runs_dir).expanduser(), key="checkpoints")
    models = [load_pretrained(source, options) for source in config.checkpoints]
    weights = config.weights or [1.0] * len(models)
    with replacing(output, "output") as temporary:
        verified = merge(models, weights, temporary)
    for model, weight in zip(models, weights, strict=True):
        print(f"{weight / sum(weights):6.1%}  {model.location}, SHA-256 {sha256_of(model)[:12]}")
        for note in model.notes:
            print(f"        {note}")
    merged = load_pretrained(str(output))
    print(f"wrote {display_path(output)}, {output.stat().st_size / 1e6:,.1f} MB, SHA-256 {sha256_of(merged)[:12]}")
    print("\n".join(verified))
    print(f"next: {command('evaluate', f'checkpoint={display_path(output)}', 'benchmarks=[…]')}")


def _require_free(output: Path, overwrite: bool) -> None:
    recover(output)
    if output.is_dir():
        raise UserError(f"output: {output} is a folder, and a checkpoint is a file; name one in it")
    if output.exists() and not overwrite:
        raise UserError(f"output: {output} exists; name another, or set overwrite=true to replace it")
    if output.exists() and not files.is_checkpoint_file(output):
        raise UserError(f"output: {output} is not a checkpoint, so it is not replaced; name another file")
