"""Load a model from a run, a checkpoint, a folder or the Hub."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.checkpoints import files, runs
from gpt2_lightning.checkpoints.content import (
    ADAPTER,
    KEY,
    describe,
    restore,
)
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, folder, hub
from gpt2_lightning.huggingface.imported import mingpt, nanogpt
from gpt2_lightning.huggingface.imported.model import ImportedModel
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.tokenizer_files import read_tokenizer
from gpt2_lightning.huggingface.weights import dtype_name, is_huggingface, is_padded, with_vocabulary
from gpt2_lightning.pretrained.load_adapter import Read, from_checkpoint, from_peft
from gpt2_lightning.pretrained.loaded_model import THIS_PROGRAM, LoadedModel, from_own_checkpoint
from gpt2_lightning.tokenizers import CharTokenizer, GPT2Tokenizer, Tokenizer

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class LoadOptions:
    """Options for finding a model, and values that its files may lack."""

    runs_dir: Path = Path("runs")
    """Folder of all runs, for `latest`."""
    base: str | None = None
    """Source of the base model of a LoRA adapter; None for its location in training."""
    tokenizer_from: str | None = None
    """`gpt2`, a folder with tokenizer.json, or a text file for a character tokenizer; None for the model's own."""
    n_head: int | None = None
    """Number of attention heads, for minGPT's state dicts, which do not contain it."""
    key: str = "checkpoint"
    """Name of the setting that names the model, for messages."""


def load_pretrained(source: str, options: LoadOptions = LoadOptions()) -> LoadedModel:
    """Load a model on the CPU, in evaluation mode and the dtype of its weights.

    Args:
        source: `latest`; a run's folder; a checkpoint of this program, nanoGPT or minGPT; a Hugging Face folder, of a
            model or a PEFT adapter; or `hf:NAME@REVISION`.
        options: see `LoadOptions`.

    Raises:
        UserError: if there is no such model, it cannot be read, it does not fit its tokenizer, or it contains NaN.
    """
    found = read_pretrained(source, options)
    was_checked = found.network is not None
    return found if was_checked else found.require_finite()


def read_pretrained(source: str, options: LoadOptions = LoadOptions()) -> LoadedModel:
    """`load_pretrained`, except that weights of checkpoints of this program may be NaN or infinite."""
    chosen = None if options.tokenizer_from is None else _tokenizer(options.tokenizer_from)
    path = Path(source).expanduser()

    def read_base(named: str) -> LoadedModel:
        return read_pretrained(named, LoadOptions(options.runs_dir, key="base"))

    if source.startswith(hub.SCHEME):
        snapshot = hub.fetch(source)
        origin = {"program": "Hugging Face", "source": snapshot.name, "revision": snapshot.commit}
        location = f"{hub.SCHEME}{snapshot.name}@{snapshot.commit}"
        found = _from_folder(snapshot.folder, location, origin)
        if "@" not in source:
            note = f"no revision was named, so the newest commit was taken; name it as {location} to get the same again"
            found = dataclasses.replace(found, notes=(*found.notes, note))
    elif path.is_dir() and adapters.is_adapter_folder(path):
        found = from_peft(path, options.base, read_base)
    elif path.is_dir() and folder.is_model_folder(path):
        found = _from_folder(path, str(path))
    elif folder.is_weight_file(path):
        found = _from_folder(path.parent, str(path.parent))
    elif path.suffix == ".json" and path.is_file():
        found = _from_imported(mingpt.read_json_file(path), str(path))
    else:
        found = _from_file(_checkpoint(source, options), options, read_base)
    if chosen is not None:
        found = dataclasses.replace(found, tokenizer=chosen)
    return _with_fitting_vocabulary(found)


def _with_fitting_vocabulary(found: LoadedModel) -> LoadedModel:
    """Remove rows that only pad the vocabulary.

    Raises:
        UserError: if the sizes of model and tokenizer differ otherwise.
    """
    if found.tokenizer is None:
        return found
    rows, tokens = found.model.config.vocab_size, found.tokenizer.vocab_size
    if rows != tokens:
        if not is_padded(rows, tokens):
            raise UserError(
                f"{found.location}: the model has vocab_size={rows}, the tokenizer has {tokens} tokens; name the right "
                "one with convert tokenizer_from="
            )
        note = f"the {rows - tokens} rows from {tokens} on of the embedding were removed: they represent no token"
        model = with_vocabulary(found.model, tokens)
        found = dataclasses.replace(found, model=model, notes=(*found.notes, note))
    return found


def _checkpoint(source: str, options: LoadOptions) -> Path:
    path = runs.find_checkpoint(source, options.runs_dir, options.key)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} contains only weights; put the config.json of the model beside it")
    if not path.exists() and _HUB_NAME.fullmatch(source):
        raise UserError(
            f"there is no run, checkpoint or folder {path}; check the path. A model of the Hugging Face Hub is named "
            f"{hub.SCHEME}{source}@REVISION"
        )
    return path


def _from_file(path: Path, options: LoadOptions, read_base: Read) -> LoadedModel:
    content = files.read(path)
    if KEY in content:
        described = describe(content, path)
        if ADAPTER in described.task:
            return from_checkpoint(content, described, path, options.base, read_base)
        model, description = restore(content, path)
        return from_own_checkpoint(content, description, path, model)
    if nanogpt.is_nanogpt(content):
        return _from_imported(nanogpt.read(content, path), str(path))
    if is_huggingface(content):
        raise UserError(
            f"{path} contains only the weights of a Hugging Face model, which do not determine the number of heads; "
            "put the config.json of the model beside it, and name their folder"
        )
    if mingpt.is_mingpt(content):
        return _from_imported(mingpt.read_state_dict(content, path, options.n_head), str(path))
    entries = ", ".join(map(str, list(content)[:5]))
    raise UserError(
        f"{path} is a checkpoint of neither {THIS_PROGRAM}, nanoGPT nor minGPT: it has {entries}, …; check the path"
    )


def _from_folder(path: Path, location: str, origin: dict[str, Any] | None = None) -> LoadedModel:
    """Load a Hugging Face folder of a language model, optionally with an instruction template, or of a classifier."""
    found, head = _from_imported(folder.read(path), location, origin), folder.read_head(path)
    if head is None:
        template = chat_template.read(path)
        return found if template is None else dataclasses.replace(found, task={"kind": INSTRUCT, "template": template})
    what = f"of {', '.join(head.labels)}" if head.labels else "that predicts a number"
    note = f"it is a classifier {what}: predict, explain, convert and finetune use its head, others its language model"
    return dataclasses.replace(found.with_head(head), notes=(*found.notes, note))


def _from_imported(imported: ImportedModel, location: str, origin: dict[str, Any] | None = None) -> LoadedModel:
    origin = origin or imported.origin
    dtypes = {tensor.dtype for tensor in imported.network.weights.values()}
    kept = imported.model.wte.weight.dtype
    stored = " and ".join(sorted(map(dtype_name, dtypes)))
    widened = f"its tensors are {stored}; all are kept as {dtype_name(kept)}, which is exact"
    return LoadedModel(
        model=imported.model,
        tokenizer=imported.tokenizer,
        run_config={"origin": origin},
        program=origin["program"],
        location=location,
        network=imported.network,
        eos_token_ids=imported.eos_token_ids,
        notes=(*imported.notes, *([widened] if len(dtypes) > 1 else [])),
    )


def _tokenizer(named: str) -> Tokenizer:
    if named == GPT2Tokenizer.kind:
        return GPT2Tokenizer()
    path = Path(named).expanduser()
    if path.is_dir():
        return read_tokenizer(path)
    remedy = "name gpt2, a folder with tokenizer.json, or a text file"
    try:
        return CharTokenizer(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"tokenizer_from: {path} cannot be read: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"tokenizer_from: {path} is not UTF-8 text; {remedy}") from None
