"""Weights in safetensors files, one file or several with an index. Reading them runs no code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from gpt2_lightning.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMG]?B)")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_WHOLE = "the download did not end or the disk was full; fetch it again"


def parse_size(text: str) -> int:
    """Parse a size such as 500MB, with decimal units, to bytes.

    Raises:
        ValueError: if the text is not a positive size.
    """
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise ValueError(f"{text!r} is out of range, a size such as 500MB or 5GB is allowed")
    return size


def is_weight_file(name: str) -> bool:
    """Whether a name is one that `write` gives to files."""
    return name in (SINGLE, INDEX) or _SHARD.fullmatch(name) is not None


def read(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder, memory-mapped without a copy.

    Raises:
        UserError: if files are missing, truncated or damaged, do not match the index, or are pickles.
    """
    if (folder / SINGLE).is_file():
        return _read_file(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} has its weights as {', '.join(pickles)} and not as safetensors; such a file can run code when "
            "it is loaded, so it was refused and nothing of it was run. Use a revision with model.safetensors"
        )
    raise UserError(f"{folder} has neither {SINGLE} nor {INDEX}; {_WHOLE}")


def write(weights: Mapping[str, Tensor], folder: Path, max_shard_bytes: int) -> None:
    """Write tensors in their order, in files of a limited size.

    Args:
        weights: contiguous tensors that share no memory.
        folder: existing folder without weight files.
        max_shard_bytes: maximum size of the tensors in a file, in bytes; a larger tensor is written to a separate file.
    """
    shards: list[dict[str, Tensor]] = [{}]
    room = max_shard_bytes
    for name, tensor in weights.items():
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        save(shards[0], folder / SINGLE)
        return
    place: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save(shard, folder / file)
        place |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        UserError: if the file cannot be read as a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}; {_WHOLE}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__} and not an object; check the path")
    return content


def save(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Write a file with default permissions, since the library makes it readable by the owner only."""
    path.touch()
    mode = path.stat().st_mode
    _library().save_file(tensors, path, metadata={"format": "pt", **metadata})
    path.chmod(mode)


def _read_file(path: Path) -> dict[str, Tensor]:
    load_file = _library().load_file
    try:
        return load_file(path)
    except Exception as error:  # damaged files raise various exceptions
        size = path.stat().st_size
        raise UserError(f"{path} ({size:,} bytes) is damaged or cut off: {error}; {_WHOLE}") from None


def _read_shards(folder: Path) -> dict[str, Tensor]:
    place = read_json(folder / INDEX).get("weight_map")
    if not isinstance(place, dict) or not all(isinstance(f, str) and Path(f).name == f for f in place.values()):
        raise UserError(f"{folder / INDEX} has no weight_map from tensors to files beside it; {_WHOLE}")
    files = sorted(set(place.values()))
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names; {_WHOLE}")
    found: dict[str, Tensor] = {}
    faults: list[str] = []
    for file in files:
        tensors = _read_file(folder / file)
        stated = {name for name, where in place.items() if where == file}
        faults += [f"{name}: not in {file}" for name in sorted(stated - tensors.keys())]
        faults += [f"{name}: in {file}, and not in the index there" for name in sorted(tensors.keys() - stated)]
        found |= tensors
    if faults:
        raise UserError(f"{folder / INDEX} and its files disagree; {_WHOLE}\n  " + "\n  ".join(faults))
    return found


def _library() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError('safetensors files need pip install "gpt2-lightning[huggingface]"') from None
    return safetensors.torch
