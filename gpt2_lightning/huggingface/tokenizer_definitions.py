"""Conversion between tokenizers and the content of Hugging Face's `tokenizer.json`."""

from __future__ import annotations

from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, GPT2Tokenizer, HuggingFaceTokenizer, Tokenizer
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, byte_of_character
from gpt2_lightning.tokenizers.char import REPLACEMENT, Unknown
from gpt2_lightning.tokenizers.gpt2 import read_merge_lines

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_MEANING_IN_A_CLASS = r"\^-[]&"
"""Characters with a special meaning in a character class of a regular expression."""


def definition_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """Create the content of a `tokenizer.json` that produces the same ids and the same text.

    Raises:
        UserError: with the reason, if the tokenizer cannot be expressed.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.plain_definition
    if isinstance(tokenizer, CharTokenizer):
        return _of_characters(tokenizer)
    if isinstance(tokenizer, GPT2Tokenizer):
        return _of_bpe(BPETokenizer.from_merge_lines(read_merge_lines()))
    if isinstance(tokenizer, BPETokenizer):
        return _of_bpe(tokenizer)
    raise UserError(f"Hugging Face's files cannot express a tokenizer of kind '{tokenizer.kind}'")


def own_tokenizer(definition: dict[str, Any], end_of_text: str | None) -> Tokenizer | None:
    """Return the equivalent `gpt2`, `bpe` or `char` tokenizer, which needs no other library; None if there is none.

    Args:
        definition: content of a `tokenizer.json`.
        end_of_text: the end-of-text token; None for none.
    """
    try:
        found = _as_bpe(definition) if is_gpt2_like(definition) else _as_characters(definition)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        UserError,
    ):  # a different structure
        return None
    if found is None or end_of_text != (None if found.end_of_text is None else END_OF_TEXT):
        return None
    return found


def is_gpt2_like(definition: dict[str, Any]) -> bool:
    """Whether a definition is byte-level BPE with GPT-2's split, as readers of `vocab.json` and `merges.txt` assume."""
    model, split = definition["model"], definition.get("pre_tokenizer") or {}
    return (
        definition.get("normalizer") is None
        and split.get("type") == "ByteLevel"
        and not split.get("add_prefix_space", True)
        and split.get("use_regex", True)
        and (definition.get("decoder") or {}).get("type") == "ByteLevel"
        and model.get("type", "BPE") == "BPE"  # early files lack the type
        and "merges" in model
        and not any(model.get(field) for field in ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"))
    )


def merge_lines(model: dict[str, Any]) -> list[str]:
    """Return the merges of a BPE model as lines of a `merges.txt`; early files contain lines, later ones pairs."""
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def added_tokens(definition: dict[str, Any]) -> dict[str, int]:
    """Return the ids of added tokens, some of which may be in the model's vocabulary as well."""
    return {token["content"]: token["id"] for token in definition.get("added_tokens") or []}


def unknown_token(definition: dict[str, Any]) -> str | None:
    """Return the token for what a model's vocabulary lacks; None if there is none."""
    model = definition["model"]
    if model.get("type") == "Unigram":
        at = model.get("unk_id")
        return None if at is None else model["vocab"][at][0]
    named: str | None = model.get("unk_token")
    return named if named in model.get("vocab", {}) else None


def byte_level(vocabulary: dict[str, int], lines: list[str], special: dict[str, int]) -> dict[str, Any]:
    """Create the content of a `tokenizer.json` from a `vocab.json`, the lines of a `merges.txt` and special tokens."""
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": lines,
    }
    return _definition(special, pre_tokenizer=_BYTE_LEVEL, decoder=_BYTE_LEVEL, model=model)


def _definition(special: dict[str, int], **parts: dict[str, Any]) -> dict[str, Any]:
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": text, **whole} for text, i in special.items()]
    nothing = {"truncation": None, "padding": None, "normalizer": None, "post_processor": None}
    return {"version": "1.0", "added_tokens": added, **nothing, **parts}


def _of_bpe(tokenizer: BPETokenizer) -> dict[str, Any]:
    visible = {byte: character for character, byte in byte_of_character().items()}
    n_ordinary = tokenizer.vocab_size - len(tokenizer.special_tokens)
    vocabulary = {"".join(visible[byte] for byte in tokenizer.token_bytes(i)): i for i in range(n_ordinary)}
    for text in tokenizer.special_tokens:
        if text in vocabulary:
            raise UserError(
                f"Hugging Face's files cannot express the special token {text!r}: they write token {vocabulary[text]}, "
                f"{tokenizer.token_bytes(vocabulary[text])!r}, in the same way"
            )
    return byte_level(vocabulary | tokenizer.special_tokens, tokenizer.merge_lines(), tokenizer.special_tokens)


def _as_bpe(definition: dict[str, Any]) -> BPETokenizer | GPT2Tokenizer | None:
    for token in definition.get("added_tokens") or []:
        if not token["special"]:
            return None  # it is recognized in every text
        if any(token.get(flag) for flag in ("single_word", "lstrip", "rstrip")):
            return None  # where it is recognized depends on the characters around it
    added, lines = added_tokens(definition), merge_lines(definition["model"])
    tokenizer = BPETokenizer.from_merge_lines(lines, sorted(added, key=added.__getitem__))
    ours = _of_bpe(tokenizer)["model"]
    if ours["vocab"] != added | definition["model"]["vocab"] or ours["merges"] != lines:
        return None
    is_gpt2 = list(added) == [END_OF_TEXT] and lines == read_merge_lines()
    return GPT2Tokenizer() if is_gpt2 else tokenizer


def _of_characters(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Create a WordLevel model with a word per character.

    Without a token for unknown characters, a WordLevel model cannot encode a text that has one, and does not name it. A
    tokenizer that rejects such texts is therefore written as one that substitutes the characters.
    """
    if halves := [character for character in tokenizer.alphabet if "\ud800" <= character <= "\udfff"]:
        raise UserError(f"Hugging Face's files cannot express U+{ord(halves[0]):04X}, which is half of a character")
    if tokenizer.unknown == "skip":
        known = "".join("\\" * (character in _MEANING_IN_A_CLASS) + character for character in tokenizer.alphabet)
        split = {"pattern": {"Regex": f"[{known}]"}, "behavior": "Removed", "invert": True}
    else:
        split = {"pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    vocabulary = {character: i for i, character in enumerate(tokenizer.alphabet)}
    special = {} if tokenizer.end_of_text is None else {END_OF_TEXT: tokenizer.end_of_text}
    unknown = "" if tokenizer.unknown == "skip" else tokenizer.substitute
    return _definition(
        special,
        pre_tokenizer={"type": "Split", **split},
        decoder={"type": "Fuse"},
        model={"type": "WordLevel", "vocab": vocabulary | special, "unk_token": unknown},
    )


def _as_characters(definition: dict[str, Any]) -> CharTokenizer | None:
    # transformers adds the unknown token to those that it recognizes in a text, which changes no ids
    added = [token for token in definition["added_tokens"] if token["content"] != REPLACEMENT]
    definition = {**definition, "added_tokens": added}
    alphabet = "".join(token for token in definition["model"]["vocab"] if len(token) == 1)
    has_end = END_OF_TEXT in definition["model"]["vocab"]
    handling: tuple[Unknown, ...] = ("replace", "substitute", "skip")
    for candidate in (CharTokenizer(alphabet, unknown, has_end) for unknown in handling):
        same = _of_characters(candidate)
        if not definition["model"]["unk_token"]:  # early files lack the substitute
            same["model"]["unk_token"] = definition["model"]["unk_token"]
        if same == definition:
            return candidate
    return None
