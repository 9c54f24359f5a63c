"""Reading and writing of Hugging Face's tokenizer files.

Current libraries read `tokenizer.json` and `tokenizer_config.json`. Older ones read `vocab.json` and `merges.txt`, and
assume GPT-2's bytes and split; these two are therefore written only for such tokenizers.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from gpt2_lightning import json_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.tokenizer_definitions import (
    added_tokens,
    byte_level,
    definition_of,
    is_gpt2_like,
    merge_lines,
    own_tokenizer,
    unknown_token,
)
from gpt2_lightning.huggingface.weight_files import read_json
from gpt2_lightning.tokenizers import CharTokenizer, HuggingFaceTokenizer, Tokenizer
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, byte_of_character
from gpt2_lightning.tokenizers.char import REPLACEMENT
from gpt2_lightning.tokenizers.huggingface import (
    CONFIG_FILE,
    END_NAME,
    FILE,
    end_of_text,
    read_text,
    special_tokens,
    without_additions,
)

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
_MERGES_VERSION = "#version: 0.2"


def write_tokenizer_files(tokenizer: Tokenizer, folder: Path, block_size: int) -> list[Path]:
    """Write the files from which `AutoTokenizer.from_pretrained(folder)` loads an equivalent tokenizer.

    It returns the same ids and the same text, except that special tokens in a text are encoded as their ids, whereas
    `encode` treats them as ordinary text, as does `split_special_tokens=True` in transformers.

    Args:
        tokenizer: tokenizer of any kind.
        folder: folder, created if missing; existing files are replaced.
        block_size: context length of the model in tokens, for `model_max_length`.

    Returns:
        Paths of the files: `tokenizer.json`, `tokenizer_config.json`, and `vocab.json` and `merges.txt` for byte-level
        BPE.

    Raises:
        UserError: with the reason, if the files cannot express the tokenizer, or cannot be written.
    """
    definition = definition_of(tokenizer)
    contents = {
        FILE: json.dumps(definition, ensure_ascii=False, indent=2),
        CONFIG_FILE: json.dumps(_config(tokenizer, block_size), ensure_ascii=False, indent=2),
    }
    if is_gpt2_like(definition):
        contents[VOCABULARY_FILE] = json.dumps(definition["model"]["vocab"] | added_tokens(definition))
        contents[MERGES_FILE] = "\n".join([_MERGES_VERSION, *merge_lines(definition["model"])]) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"the tokenizer's files cannot be written to {folder}: {error.strerror}") from None
    return [folder / name for name in contents]


def add_prefix_space(folder: Path) -> None:
    """Configure the tokenizer of a folder to begin each text with a space.

    Raises:
        UserError: if the folder has no tokenizer that supports this, or cannot be written.
    """
    definition, config = read_json(folder / FILE), read_json(folder / CONFIG_FILE)
    split = definition.get("pre_tokenizer") or {}
    if split.get("type") != "ByteLevel":
        raise UserError(
            "the classifier begins each text with a space (task.add_prefix_space), and its tokenizer cannot do so in "
            "transformers; write a file for this program with to=gpt2_lightning"
        )
    split["add_prefix_space"] = config["add_prefix_space"] = True
    for file, fields in ((folder / FILE, definition), (folder / CONFIG_FILE, config)):
        file.write_text(json.dumps(fields, ensure_ascii=False, indent=2), encoding="utf-8", newline="\n")


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of a Hugging Face folder.

    Returns:
        A `gpt2`, `bpe` or `char` tokenizer, which need no other library, where one is equivalent; otherwise a
        `huggingface` tokenizer. Each treats special tokens in a text as ordinary text.

    Raises:
        UserError: if the folder has neither `tokenizer.json` nor `vocab.json` and `merges.txt`, or they cannot be used.
    """
    if (folder / FILE).exists():
        text = read_text(folder / FILE)
    elif (folder / VOCABULARY_FILE).exists() and (folder / MERGES_FILE).exists():
        text = json.dumps(_definition_of_lines(folder))
    else:
        raise UserError(f"{folder} has neither {FILE} nor {VOCABULARY_FILE} and {MERGES_FILE}; check the path")
    try:
        definition = without_additions(text)
        named = special_tokens(folder)
        end = end_of_text(definition, named.get(END_NAME))
        theirs = functools.partial(HuggingFaceTokenizer, text, end, named)
        own = own_tokenizer(definition, end)
        return own if own is not None and _keeps_names(own, named, definition) else theirs()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the tokenizer's files in {folder} cannot be used: {error}; download them again") from None


def exported_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the special tokens of a tokenizer by their names in `tokenizer_config.json`.

    As in GPT-2, the end of text also begins a text, and replaces unknown tokens where there is no other token for them.
    It pads, too: without a padding token, transformers refuses batches; padding is masked, so any token could.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        end, own = tokenizer.end_token, tokenizer.special_tokens
        unknown = own.get("unk_token") or unknown_token(tokenizer.plain_definition)
    else:
        end, own = None if tokenizer.end_of_text is None else END_OF_TEXT, {}
        unknown = REPLACEMENT if isinstance(tokenizer, CharTokenizer) and tokenizer.unknown == "replace" else None
    named = {"bos_token": end, END_NAME: end, "unk_token": unknown or end, "pad_token": own.get("pad_token") or end}
    return {name: text for name, text in named.items() if text is not None}


def padding_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the exported `pad_token`; None if there is none."""
    if isinstance(tokenizer, HuggingFaceTokenizer) and "pad_token" in tokenizer.special_tokens:
        return tokenizer.token_id(tokenizer.special_tokens["pad_token"])
    return tokenizer.end_of_text


def _config(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """Create the content of `tokenizer_config.json`."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **exported_tokens(tokenizer),
    }
    if tokenizer.kind in ("gpt2", "bpe") and tokenizer.end_of_text is not None:
        config |= {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    return config


def _keeps_names(own: Tokenizer, named: dict[str, str], definition: dict[str, Any]) -> bool:
    """Whether an export of a tokenizer names the special tokens that its source names, of those in the vocabulary."""
    known = definition["model"]["vocab"].keys() | added_tokens(definition).keys()
    exported = exported_tokens(own)
    return all(exported.get(name) == text for name, text in named.items() if text in known)


def _definition_of_lines(folder: Path) -> dict[str, Any]:
    """Read the definition in `vocab.json` and `merges.txt`, with GPT-2's split. Tokens without a merge are special."""
    file = folder / VOCABULARY_FILE
    try:
        vocabulary = json_text.loads(read_text(file))
        lines = [line for line in read_text(folder / MERGES_FILE).split("\n") if line]
        if lines and lines[0].startswith("#version"):
            del lines[0]
        made = byte_of_character().keys() | {line.replace(" ", "") for line in lines}
        return byte_level(vocabulary, lines, {text: i for text, i in vocabulary.items() if text not in made})
    except (AttributeError, ValueError) as error:
        raise UserError(f"{file} contains no token ids: {error}; download it again") from None
