"""Conversion of a model to another format, verified before it replaces an existing target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt2_lightning.atomic_replace import recover, replacing
from gpt2_lightning.checkpoints import files
from gpt2_lightning.conversion import exporters
from gpt2_lightning.conversion.verify import Check
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.pretrained.devices import DTYPES
from gpt2_lightning.pretrained.loaded_model import PEFT, LoadedModel

Format = Literal["huggingface", "peft", "gpt2_lightning"]
"""A model's folder, an adapter's folder, or a checkpoint of this program."""


@dataclass(frozen=True)
class Target:
    """Target of a conversion."""

    path: Path
    """Folder or file to write."""
    overwrite: bool = False
    """Whether to replace an existing target, after the new one is verified."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Dtype to round the weights to; None to keep their dtype."""
    max_shard_bytes: int = 5 * 10**9
    """Maximum size of a safetensors file in bytes."""
    base_name: str | None = None
    """Name of the base model in a PEFT adapter; None for its location, if PEFT can load it."""
    runs_dir: Path = Path("runs")
    """Folder of all runs, for an adapter whose base is `latest`."""

    def require_free(self) -> None:
        """Check that the target does not exist, or may be replaced.

        Raises:
            UserError: if it exists and `overwrite` is False.
        """
        recover(self.path)
        if self.path.exists() and not self.overwrite:
            raise UserError(f"target: {self.path} exists; name another, or set overwrite=true to replace it")

    def require_replaceable(self, written: Format) -> None:
        """Check that an existing target has the format that will be written.

        Raises:
            UserError: if the target has another format.
        """
        if not self.path.exists():
            return
        if written == "gpt2_lightning":
            if self.path.is_dir():
                raise UserError(f"target: {self.path} is a folder, and a checkpoint is a file; name one in it")
            if not files.is_checkpoint_file(self.path):
                raise UserError(f"target: {self.path} is not a checkpoint, so it is not replaced; name another file")
            return
        if not self.path.is_dir():
            raise UserError(f"target: {self.path} is a file, and a Hugging Face model is a folder; name another")
        if unknown := (adapters if written == "peft" else folder).unknown_files(self.path):
            raise UserError(
                f"target: {self.path} contains {', '.join(unknown[:5])}, which no conversion wrote, so it is not "
                "replaced; name another folder"
            )


def convert(source: LoadedModel, target: Target, written: Format) -> list[str]:
    """Write a model in a format, and verify the result.

    Args:
        source: model to convert.
        target: target of the conversion.
        written: format to write.

    Returns:
        Results of the verification, one line each.

    Raises:
        UserError: if the target cannot be replaced, the format cannot express the model, or the verification fails; the
            target is then unchanged.
    """
    target.require_replaceable(written)
    if target.dtype and (written == "peft" or (written == "gpt2_lightning" and source.program == PEFT)):
        raise UserError(f"dtype: {target.dtype} does not fit an adapter, which is written as it is; leave it out")
    export = _exporter(source, target, written)
    check = Check(source)
    check.reading()
    model = check.rounding(source.model if target.dtype is None else recast(source.model, DTYPES[target.dtype]))
    with replacing(target.path, "target") as temporary:
        try:
            export(check, model, temporary)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), str(target.path))) from None
    return check.lines


def _exporter(source: LoadedModel, target: Target, written: Format) -> exporters.Write:
    if written == "peft":
        return exporters.peft_adapter(source, target.base_name, target.runs_dir)
    if written == "huggingface":
        return exporters.huggingface_folder(source, target.max_shard_bytes, target.path.name)
    if source.program == PEFT:
        return exporters.adapter_checkpoint(source, target.runs_dir)
    return exporters.checkpoint(source)
