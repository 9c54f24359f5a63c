"""Reading and writing of Hugging Face model folders (`from_pretrained`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import chat_template, weight_files
from gpt2_lightning.huggingface.config import MODEL_TYPE, config_from_huggingface, config_to_huggingface
from gpt2_lightning.huggingface.imported.model import ImportedModel
from gpt2_lightning.huggingface.label_head import ARCHITECTURE as CLASSIFIER
from gpt2_lightning.huggingface.label_head import WEIGHT as SCORE
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.tokenizer_files import padding_id, read_tokenizer, write_tokenizer_files
from gpt2_lightning.huggingface.weight_files import read_json
from gpt2_lightning.huggingface.weights import dtype_name, from_huggingface, to_huggingface, without_prefix_and_masks
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.reference import ReferenceGPT2
from gpt2_lightning.tokenizers import Tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
CARD = "README.md"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = ("tokenizer.json", TOKENIZER_CONFIG, "vocab.json", "merges.txt")
_PIPELINE_TOKENS = 256
"""New tokens of the text-generation pipeline of transformers by default, upon which it fails past the context. A
`max_length` prevents this; with it, each call of `generate` with `max_new_tokens` prints a warning."""
_VOCABULARY_FILES = ("tokenizer.json", "vocab.json")
"""Files that indicate a tokenizer; a folder with a tokenizer contains at least one of them."""


def is_model_folder(folder: Path) -> bool:
    """Whether a folder contains a Hugging Face model, complete or not."""
    return (folder / CONFIG).is_file() or any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def is_weight_file(path: Path) -> bool:
    """Whether a file has the weights of the model of its folder."""
    return path.name in (weight_files.SINGLE, weight_files.PICKLE) and (path.parent / CONFIG).is_file()


def read(folder: Path) -> ImportedModel:
    """Read the language model of a folder, also that of a classifier without its head; see `read_head`.

    Raises:
        UserError: if files are missing or damaged, the model is not a GPT-2, or its tensors do not match config.json.
    """
    fields = _fields(folder)
    classifies = _classifies(fields)
    if classifies:  # without a language model head, tie it
        fields |= {"architectures": None, "tie_word_embeddings": True}
    try:
        config = config_from_huggingface(fields)
    except (TypeError, ValueError) as error:
        raise UserError(_located(folder / CONFIG, error)) from None
    tensors = weight_files.read(folder)
    if classifies:
        tensors.pop(SCORE, None)
    try:
        model = from_huggingface(tensors, config)
    except ValueError as error:
        raise UserError(_located(folder, error)) from None
    weights = without_prefix_and_masks(tensors)
    return ImportedModel(
        model=model,
        network=ReferenceGPT2(
            weights,
            config.n_layer,
            config.n_head,
            config.layer_norm_epsilon,
            conv1d=True,
            exact_gelu=config.gelu == "exact",
        ),
        tokenizer=read_tokenizer(folder) if _has_tokenizer(folder) else None,
        origin={"program": "Hugging Face", "source": str(folder)},
        eos_token_ids=_eos_token_ids(folder, fields, config.vocab_size),
    )


def read_head(folder: Path) -> LabelHead | None:
    """Read the head of a classifier's folder; None for a language model.

    Raises:
        UserError: if files are missing or damaged, or the head does not match config.json.
    """
    fields = _fields(folder)
    if not _classifies(fields):
        return None
    score = weight_files.read(folder).get(SCORE)
    width, context = fields.get("n_embd", GPT2Config.n_embd), fields.get("n_positions", GPT2Config.block_size)
    if score is None or score.dim() != 2 or score.size(1) != width:
        found = "is missing" if score is None else f"has shape {tuple(score.shape)}"
        raise UserError(f"{folder}: {SCORE} {found}, and a classifier of width {width} needs (labels, {width})")
    settings = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    try:
        truncation = min(int(settings.get("model_max_length") or context), context)
        return LabelHead.from_config(fields, score.clone(), truncation)
    except ValueError as error:
        raise UserError(f"{folder / CONFIG} is not a classifier that can be read: {error}") from None


def write(
    model: GPT2,
    tokenizer: Tokenizer | None,
    folder: Path,
    card: str,
    max_shard_bytes: int,
    head: LabelHead | None = None,
    ends: Sequence[int] = (),
) -> None:
    """Write weights in their dtype, configuration, tokenizer and model card.

    Args:
        model: model to write; its positional encoding is written as a table.
        tokenizer: tokenizer to write; None for none.
        folder: folder to create.
        card: content of README.md.
        max_shard_bytes: maximum size of the tensors in a file, in bytes.
        head: head of a classifier, whose model must have a tied head; see `label_head.without_own_head`.
        ends: all ids that end a text; none for the tokenizer's end of text.

    Raises:
        UserError: if the folder cannot be written, or the tokenizer cannot be expressed.
    """
    end, pad = (tokenizer.end_of_text, padding_id(tokenizer)) if tokenizer else (None, None)
    special = {
        "bos_token_id": end,
        "eos_token_id": list(ends) if len(ends) > 1 else ends[0] if ends else end,
        "pad_token_id": pad,
    }
    config = {
        "architectures": ["GPT2LMHeadModel" if head is None else CLASSIFIER],
        "model_type": MODEL_TYPE,
        **config_to_huggingface(model.config),
        **special,
        "dtype": dtype_name(model.wte.weight.dtype),
        "use_cache": True,
        **({} if head is None else head.to_config(pad=pad)),
    }
    weights = to_huggingface(model) | ({} if head is None else {SCORE: head.score.detach().clone()})
    try:
        folder.mkdir(parents=True)
        weight_files.write(weights, folder, max_shard_bytes)
        _write_json(config, folder / CONFIG)
        if head is None:
            short = model.config.block_size <= _PIPELINE_TOKENS
            _write_json(special | ({"max_length": model.config.block_size} if short else {}), folder / GENERATION)
        (folder / CARD).write_text(card, encoding="utf-8")
        if tokenizer is not None:
            write_tokenizer_files(tokenizer, folder, model.config.block_size if head is None else head.truncation)
            if head is not None:
                _write_json(read_json(folder / TOKENIZER_CONFIG) | {"padding_side": "right"}, folder / TOKENIZER_CONFIG)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; free or change the folder") from None


def unknown_files(folder: Path) -> list[str]:
    """Return the names of files in a folder that `write` does not write."""
    known = {CONFIG, GENERATION, CARD, chat_template.FILE, *TOKENIZER_FILES}
    return sorted(
        file.name for file in folder.iterdir() if file.name not in known and not weight_files.is_weight_file(file.name)
    )


def _fields(folder: Path) -> dict[str, Any]:
    """Read the content of a model's config.json."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} has weights and no {CONFIG}; download it from where the weights came from")
    fields = read_json(folder / CONFIG)
    if "model_type" not in fields:
        raise UserError(
            f"{folder / CONFIG} has no model_type, which Hugging Face's configurations have; check the path"
        )
    return fields


def _classifies(fields: dict[str, Any]) -> bool:
    return fields.get("architectures") == [CLASSIFIER]


def _eos_token_ids(folder: Path, fields: dict[str, Any], vocab_size: int) -> tuple[int, ...]:
    """Return the ids at which transformers ends a text: those of the generation configuration, if there is one.

    Ids outside the vocabulary are left out: transformers writes GPT-2's by default.
    """
    generation = read_json(folder / GENERATION) if (folder / GENERATION).is_file() else fields
    named = generation.get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return tuple(token for token in ids if isinstance(token, int) and 0 <= token < vocab_size)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _VOCABULARY_FILES)


def _write_json(fields: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def _located(path: Path, error: Exception) -> str:
    return "\n".join([f"{path} is not a GPT-2 that can be read", *(f"  {line}" for line in str(error).splitlines())])
