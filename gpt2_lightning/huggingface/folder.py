"""A model's folder as Hugging Face's `from_pretrained` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import safetensors_files
from gpt2_lightning.huggingface.config import MODEL_TYPE, config_from_huggingface, config_to_huggingface
from gpt2_lightning.huggingface.foreign import Foreign
from gpt2_lightning.huggingface.network import Network
from gpt2_lightning.huggingface.safetensors_files import read_json
from gpt2_lightning.huggingface.tokenizer_files import read_tokenizer, write_tokenizer_files
from gpt2_lightning.huggingface.weights import from_huggingface, name_of, to_huggingface, without_prefix_and_masks
from gpt2_lightning.model import GPT2
from gpt2_lightning.tokenizers import Tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
CARD = "README.md"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
_VOCABULARY_FILES = ("tokenizer.json", "vocab.json")
"""One of them is in a folder with a tokenizer."""


def is_one(folder: Path) -> bool:
    """Whether a folder is a model of Hugging Face's, whole or not."""
    return (folder / CONFIG).is_file() or any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def read(folder: Path) -> Foreign:
    """The model of a folder.

    Raises:
        UserError: if files are missing or damaged, it is no GPT-2, or its tensors are not those of its config.json.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} holds weights and no {CONFIG}; fetch it from where the weights came from")
    fields = read_json(folder / CONFIG)
    if "model_type" not in fields:
        raise UserError(
            f"{folder / CONFIG} has no model_type, which Hugging Face's configurations have; check the path"
        )
    try:
        config = config_from_huggingface(fields)
    except (TypeError, ValueError) as error:
        raise UserError(_located(folder / CONFIG, error)) from None
    tensors = safetensors_files.read(folder)
    try:
        model = from_huggingface(tensors, config)
    except ValueError as error:
        raise UserError(_located(folder, error)) from None
    has_tokenizer = any((folder / name).is_file() for name in _VOCABULARY_FILES)
    weights = without_prefix_and_masks(tensors)
    return Foreign(
        model=model,
        network=Network(weights, config.n_layer, config.n_head, config.layer_norm_epsilon, conv1d=True),
        tokenizer=read_tokenizer(folder) if has_tokenizer else None,
        origin={"program": "Hugging Face", "source": str(folder)},
    )


def write(model: GPT2, tokenizer: Tokenizer | None, folder: Path, card: str, max_shard_bytes: int) -> None:
    """Write weights in their dtype, configuration, tokenizer and model card.

    Args:
        model: positions of any kind in `positions.POSITIONS`: they are written as the table that they are.
        tokenizer: None to write none.
        folder: is made.
        card: the text of README.md.
        max_shard_bytes: size of the tensors in a file, at most.

    Raises:
        UserError: if the folder cannot be written, or the tokenizer has no form there.
    """
    end = tokenizer.end_of_text if tokenizer else None
    ends = {"bos_token_id": end, "eos_token_id": end}
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": MODEL_TYPE,
        **config_to_huggingface(model.config),
        **ends,
        "dtype": name_of(model.wte.weight.dtype),
        "use_cache": True,
    }
    try:
        folder.mkdir(parents=True)
        safetensors_files.write(to_huggingface(model), folder, max_shard_bytes)
        _write_json(config, folder / CONFIG)
        _write_json(ends, folder / GENERATION)
        (folder / CARD).write_text(card, encoding="utf-8")
        if tokenizer is not None:
            write_tokenizer_files(tokenizer, folder, model.config.block_size)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; free or change the folder") from None


def strangers(folder: Path) -> list[str]:
    """Names in a folder that `write` gives to none of its files."""
    ours = {CONFIG, GENERATION, CARD, *TOKENIZER_FILES}
    return sorted(
        file.name
        for file in folder.iterdir()
        if file.name not in ours and not safetensors_files.is_weight_file(file.name)
    )


def _write_json(fields: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def _located(path: Path, error: Exception) -> str:
    return "\n".join([f"{path} is not a GPT-2 that can be read", *(f"  {line}" for line in str(error).splitlines())])
