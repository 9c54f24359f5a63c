"""Every place that a model may come from, behind one name on the command line."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.checkpoints import files, runs
from gpt2_lightning.checkpoints.content import (
    ADAPTER,
    KEY,
    Description,
    describe,
    restore,
)
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, folder, hub
from gpt2_lightning.huggingface.imported import mingpt, nanogpt
from gpt2_lightning.huggingface.imported.model import Foreign
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.tokenizer_files import read_tokenizer
from gpt2_lightning.huggingface.weights import name_of
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.load_adapter import Open, from_checkpoint, from_peft
from gpt2_lightning.pretrained.loaded import OURS, Source, of_ours
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer

__all__ = ["OURS", "Source", "load_any", "open_source"]

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def load_any(
    source: str, runs_dir: Path, device: torch.device, base: str | None = None
) -> tuple[GPT2, Description, str]:
    """A model from anywhere, ready to generate; what its reader should know is printed.

    Args:
        source: see `open_source`.
        runs_dir: where `latest` looks.
        device: where the model goes.
        base: see `open_source`.

    Returns:
        The model in evaluation mode, its description, and where it was found.

    Raises:
        UserError: see `open_source`; also if there is no tokenizer.
    """
    found = open_source(source, runs_dir, base=base)
    for note in found.notes:
        print(f"{found.place}: {note}", file=sys.stderr)
    return found.model.to(device).eval(), found.description(), found.place


def open_source(
    source: str,
    runs_dir: Path,
    tokenizer_from: str | None = None,
    n_head: int | None = None,
    base: str | None = None,
    key: str = "checkpoint",
    finite: bool = True,
) -> Source:
    """Find a model, and read it.

    Args:
        source: `latest`; a run's folder; a checkpoint of ours, nanoGPT's or minGPT's; a folder of Hugging Face's, of a
            model or a PEFT adapter; or `hf:NAME@REVISION`.
        runs_dir: where `latest` looks.
        tokenizer_from: `gpt2`, a folder with tokenizer.json, or a text whose characters are the tokens; None for the
            source's own.
        n_head: the number of heads, for a state dict that does not tell it.
        base: where the model lies that an adapter was trained on, a source as well; None for where it was then.
        key: the setting that names the source, for messages.
        finite: whether NaN and infinity are refused; those of other programs' models always are.

    Raises:
        UserError: if there is no such model, it cannot be read, it does not fit its tokenizer, or it holds NaN.
    """
    chosen = None if tokenizer_from is None else _tokenizer(tokenizer_from)
    path = Path(source).expanduser()

    def open_base(place: str) -> Source:
        return open_source(place, runs_dir, key="base", finite=finite)

    if source.startswith(hub.SCHEME):
        snapshot = hub.fetch(source)
        origin = {"program": "Hugging Face", "source": snapshot.name, "revision": snapshot.commit}
        place = f"{hub.SCHEME}{snapshot.name}@{snapshot.commit}"
        found = _from_folder(snapshot.folder, place, origin)
        if "@" not in source:
            note = f"no revision was named, so the newest commit was taken; name it as {place} to get the same again"
            found = dataclasses.replace(found, notes=(*found.notes, note))
    elif path.is_dir() and adapters.is_one(path):
        found = from_peft(path, base, open_base)
    elif path.is_dir() and folder.is_one(path):
        found = _from_folder(path, str(path))
    elif path.suffix == ".json" and path.is_file():
        found = _from_foreign(mingpt.read_json_file(path), str(path))
    else:
        found = _from_file(_checkpoint(source, runs_dir, key), n_head, base, open_base)
    if chosen is not None:
        found = dataclasses.replace(found, tokenizer=chosen)
    if found.tokenizer is not None and found.tokenizer.vocab_size != found.model.config.vocab_size:
        raise UserError(
            f"{found.place}: the model has vocab_size={found.model.config.vocab_size}, the tokenizer has "
            f"{found.tokenizer.vocab_size} tokens; name the right one with tokenizer_from="
        )
    was_checked = found.network is not None
    return found if was_checked or not finite else found.require_finite()


def _checkpoint(source: str, runs_dir: Path, key: str) -> Path:
    path = runs.find_checkpoint(source, runs_dir, key)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds weights alone; name its folder, which has config.json beside them")
    if not path.exists() and _HUB_NAME.fullmatch(source):
        raise UserError(
            f"there is no run, checkpoint or folder {path}; check the path. A model of Hugging Face's hub is named "
            f"{hub.SCHEME}{source}@REVISION"
        )
    return path


def _from_file(path: Path, n_head: int | None, base: str | None, open_base: Open) -> Source:
    content = files.read(path)
    if KEY in content:
        described = describe(content, path)
        if ADAPTER in described.task:
            return from_checkpoint(content, described, path, base, open_base)
        model, description = restore(content, path)
        return of_ours(content, description, path, model)
    if nanogpt.is_one(content):
        return _from_foreign(nanogpt.read(content, path), str(path))
    if mingpt.is_one(content):
        return _from_foreign(mingpt.read_state_dict(content, path, n_head), str(path))
    entries = ", ".join(map(str, list(content)[:5]))
    raise UserError(
        f"{path} is a checkpoint of neither {OURS}, nanoGPT nor minGPT: it has {entries}, …; check the path"
    )


def _from_folder(path: Path, place: str, origin: dict[str, Any] | None = None) -> Source:
    """A folder of Hugging Face's, of a language model, maybe with a template of ours, or a classifier."""
    found, head = _from_foreign(folder.read(path), place, origin), folder.read_head(path)
    if head is None:
        template = chat_template.read(path)
        return found if template is None else dataclasses.replace(found, task={"kind": INSTRUCT, "template": template})
    what = f"of {', '.join(head.labels)}" if head.labels else "that answers with a number"
    note = f"it is a classifier {what}: predict, explain, convert and finetune use its head, others its language model"
    return dataclasses.replace(found.with_head(head), notes=(*found.notes, note))


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
