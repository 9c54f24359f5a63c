"""Every place that a model may come from, behind one name on the command line."""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.app import runs
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import (
    ADAPTER,
    KEY,
    SCORE,
    Description,
    describe,
    restore,
    weights_hash,
)
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, hub, mingpt, nanogpt
from gpt2_lightning.huggingface.foreign import Foreign
from gpt2_lightning.huggingface.network import Network
from gpt2_lightning.huggingface.tokenizer_files import read_tokenizer
from gpt2_lightning.huggingface.weights import name_of, not_finite
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.adapters import load_adapter, merge, remove_lora
from gpt2_lightning.model.lora import LoRASpec
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer

OURS = "GPT-2 Lightning"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Source:
    """A model from anywhere, as ours."""

    model: GPT2
    tokenizer: Tokenizer | None
    """None where the source knows of none, and none was named."""
    run_config: dict[str, Any]
    """The configuration of the run that made it; for a model of another program, what is known of its origin."""
    program: str
    """Who saved it."""
    place: str
    """Where it was found, for messages."""
    checkpoint: Path | None = None
    """The file, for one of ours."""
    step: int | None = None
    """The optimizer step of one of ours that a run saved."""
    network: Network | None = None
    """The tensors as the other program has them."""
    notes: tuple[str, ...] = ()
    """What was done in reading it."""
    task: dict[str, Any] = field(default_factory=dict)
    """What one of ours was fine-tuned for; see `Description.task`."""
    inexact: str = ""
    """What is computed otherwise than by the other program."""

    def description(self) -> Description:
        """What a checkpoint says of the model.

        Raises:
            UserError: if there is no tokenizer.
        """
        if self.tokenizer is None:
            raise UserError(
                f"{self.place} knows of no tokenizer, and it needs one; convert it with "
                "tokenizer_from=gpt2, a folder with tokenizer.json, or a text whose characters are the tokens"
            )
        return Description(self.model.config, self.tokenizer, self.run_config, self.task)


def load_any(source: str, runs_dir: Path, device: torch.device) -> tuple[GPT2, Description, str]:
    """A model from anywhere, ready to generate; what its reader should know is printed.

    Args:
        source: see `open_source`.
        runs_dir: where `latest` looks.
        device: where the model goes.

    Returns:
        The model in evaluation mode, its description, and where it was found.

    Raises:
        UserError: see `open_source`; also if there is no tokenizer.
    """
    found = open_source(source, runs_dir)
    for note in (*found.notes, *([found.inexact] if found.inexact else [])):
        print(f"{found.place}: {note}", file=sys.stderr)
    return found.model.to(device).eval(), found.description(), found.place


def open_source(
    source: str,
    runs_dir: Path,
    tokenizer_from: str | None = None,
    n_head: int | None = None,
    base: str | None = None,
) -> Source:
    """Find a model, and read it.

    Args:
        source: `latest`; a run's folder; a checkpoint of ours, nanoGPT's or minGPT's; a folder of Hugging Face's; or
            `hf:NAME@REVISION`.
        runs_dir: where `latest` looks.
        tokenizer_from: `gpt2`, a folder with tokenizer.json, or a text whose characters are the tokens; None for the
            source's own.
        n_head: the number of heads, for a state dict that does not tell it.
        base: where the model lies that an adapter was trained on; None for where it was then.

    Raises:
        UserError: if there is no such model, it cannot be read, it does not fit its tokenizer, or it holds NaN.
    """
    chosen = None if tokenizer_from is None else _tokenizer(tokenizer_from)
    path = Path(source).expanduser()
    if source.startswith(hub.SCHEME):
        snapshot = hub.fetch(source)
        origin = {"program": "Hugging Face", "source": snapshot.name, "revision": snapshot.commit}
        place = f"{hub.SCHEME}{snapshot.name}@{snapshot.commit}"
        found = _from_foreign(folder.read(snapshot.folder), place, origin)
    elif path.is_dir() and folder.is_one(path):
        found = _from_foreign(folder.read(path), str(path))
    elif path.suffix == ".json" and path.is_file():
        found = _from_foreign(mingpt.read_json_file(path), str(path))
    else:
        found = _from_file(_checkpoint(source, runs_dir), n_head, base)
    if chosen is not None:
        found = dataclasses.replace(found, tokenizer=chosen)
    if found.tokenizer is not None and found.tokenizer.vocab_size != found.model.config.vocab_size:
        raise UserError(
            f"{found.place}: the model has vocab_size={found.model.config.vocab_size}, the tokenizer has "
            f"{found.tokenizer.vocab_size} tokens; name the right one with tokenizer_from="
        )
    return found


def _checkpoint(source: str, runs_dir: Path) -> Path:
    path = runs.find_checkpoint(source, runs_dir)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds weights alone; name its folder, which has config.json beside them")
    if not path.exists() and _HUB_NAME.fullmatch(source):
        raise UserError(
            f"there is no run, checkpoint or folder {path}; check the path. A model of Hugging Face's hub is named "
            f"{hub.SCHEME}{source}@REVISION"
        )
    return path


def _from_file(path: Path, n_head: int | None, base: str | None) -> Source:
    content = files.read(path)
    if KEY in content:
        described = describe(content, path)
        if ADAPTER in described.task:
            return _from_adapter(content, described, path, base)
        model, description = restore(content, path)
        if faults := not_finite(model.state_dict()):
            raise UserError("\n  ".join([f"{path} holds values that are no numbers", *faults]))
        return Source(
            model,
            description.tokenizer,
            description.run_config,
            OURS,
            str(path),
            path,
            content.get("global_step"),
            task=description.task,
        )
    if nanogpt.is_one(content):
        return _from_foreign(nanogpt.read(content, path), str(path))
    if mingpt.is_one(content):
        return _from_foreign(mingpt.read_state_dict(content, path, n_head), str(path))
    entries = ", ".join(map(str, list(content)[:5]))
    raise UserError(
        f"{path} is a checkpoint of neither {OURS}, nanoGPT nor minGPT: it has {entries}, …; check the path"
    )


def _from_adapter(content: dict[str, Any], description: Description, path: Path, base: str | None) -> Source:
    """A LoRA adapter, merged into the model that it was trained on."""
    adapter = description.task[ADAPTER]
    place = base or adapter["base"]
    try:
        found = open_source(place, Path())
    except UserError as error:
        raise UserError(
            f"{path} holds a LoRA adapter, and the model that it was trained on cannot be opened: {error}; "
            "if that was moved, name its place with base="
        ) from None
    if (has := weights_hash(found.model)) != adapter["base_hash"]:
        raise UserError(
            f"{path} holds a LoRA adapter of another model than {place}: that has the hash {has[:12]}, and it was "
            f"trained on {adapter['base_hash'][:12]}; name the right one with base="
        )
    state = {key.replace(".adapters.default.", "."): t for key, t in content["state_dict"].items() if key != SCORE}
    model = found.model.float()
    try:
        load_adapter(model, state, LoRASpec(**adapter["spec"]))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    merge(model)
    remove_lora(model)
    return Source(
        model,
        description.tokenizer,
        description.run_config,
        OURS,
        str(path),
        path,
        content.get("global_step"),
        notes=(f"its LoRA adapter is merged into {place}",),
        task={key: value for key, value in description.task.items() if key != ADAPTER},
    )


def _from_foreign(foreign: Foreign, place: str, origin: dict[str, Any] | None = None) -> Source:
    origin = origin or foreign.origin
    dtypes = {tensor.dtype for tensor in foreign.network.weights.values()}
    kept = foreign.model.wte.weight.dtype
    widened = (
        f"its tensors are {' and '.join(sorted(map(name_of, dtypes)))}; all are kept as {name_of(kept)}, which is exact"
    )
    return Source(
        model=foreign.model,
        tokenizer=foreign.tokenizer,
        run_config={"origin": origin},
        program=origin["program"],
        place=place,
        network=foreign.network,
        notes=(*foreign.notes, *([widened] if len(dtypes) > 1 else [])),
        inexact=foreign.inexact,
    )


def _tokenizer(named: str) -> Tokenizer:
    if named == GPT2Tokenizer.kind:
        return GPT2Tokenizer()
    path = Path(named).expanduser()
    if path.is_dir():
        return read_tokenizer(path)
    remedy = "name gpt2, a folder with tokenizer.json, or a text"
    try:
        return CharTokenizer(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"tokenizer_from: {path} cannot be read: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"tokenizer_from: {path} is no text in UTF-8; {remedy}") from None
