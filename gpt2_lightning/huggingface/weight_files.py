"""Weights of Hugging Face folders: one file, or several with an index. Reading them runs no code.

safetensors files are written. Files that torch pickled, of early folders, are read as tensors and plain values alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from gpt2_lightning import json_text
from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
PICKLE = "pytorch_model.bin"
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_OTHERS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.gguf", "*.onnx")
_SNAPSHOT = re.compile(r"models--(?P<name>.+)")
"""Folder of a model in the cache of huggingface_hub, which contains `snapshots/COMMIT`."""
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
    """Read all tensors of a folder; those of safetensors files are memory-mapped without a copy.

    Raises:
        UserError: if files are missing, truncated or damaged, do not match the index, have another format, or are
            pickles with something other than tensors.
    """
    for single, index, read_file in ((SINGLE, INDEX, _read_file), (PICKLE, _PICKLE_INDEX, _read_pickle)):
        if (folder / single).is_file():
            return read_file(folder / single)
        if (folder / index).is_file():
            return _read_shards(folder / index, read_file)
    raise UserError(_without_weights(folder))


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
        content = json_text.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}; {_WHOLE}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__} and not an object; check the path")
    return content


def save(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Write a file with default permissions, since the library makes it readable by the owner only.

    Raises:
        OSError: if it cannot be written, such as onto a full disk.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        _library().save_file(tensors, path, metadata={"format": "pt", **metadata})
    except Exception as error:  # the library has an exception of its own
        if (code := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
    path.chmod(mode)


def _read_file(path: Path) -> dict[str, Tensor]:
    load_file = _library().load_file
    try:
        return load_file(path)
    except Exception as error:  # damaged files raise various exceptions
        size = path.stat().st_size
        raise UserError(f"{path} ({size:,} bytes) is damaged or cut off: {error}; {_WHOLE}") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = files.read(path)
    if strange := [str(name) for name, tensor in content.items() if not isinstance(tensor, Tensor)]:
        raise UserError(f"{path} contains {', '.join(strange[:5])} beside tensors, so it is not a Hugging Face model's")
    return content


def _read_shards(index: Path, read_file: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    folder, place = index.parent, read_json(index).get("weight_map")
    if not isinstance(place, dict) or not all(isinstance(f, str) and Path(f).name == f for f in place.values()):
        raise UserError(f"{index} has no weight_map from tensors to files beside it; {_WHOLE}")
    shards = sorted(set(place.values()))
    if missing := [file for file in shards if not (folder / file).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {index.name} names; {_WHOLE}")
    found: dict[str, Tensor] = {}
    faults: list[str] = []
    for file in shards:
        tensors = read_file(folder / file)
        stated = {name for name, where in place.items() if where == file}
        faults += [f"{name}: not in {file}" for name in sorted(stated - tensors.keys())]
        faults += [f"{name}: in {file}, and not in the index there" for name in sorted(tensors.keys() - stated)]
        found |= tensors
    if faults:
        raise UserError(f"{index} and its files disagree; {_WHOLE}\n  " + "\n  ".join(faults))
    return found


def _without_weights(folder: Path) -> str:
    lacks = f"{folder} has neither {SINGLE} nor {PICKLE}, nor the index of either"
    cached = _SNAPSHOT.fullmatch(folder.parent.parent.name)
    if cached and folder.parent.name == "snapshots":
        address = f"hf:{cached['name'].replace('--', '/')}@{folder.name}"
        return f"{lacks}: the cache of the Hub holds a part of this model; name {address} to download the rest"
    if others := sorted(file.name for pattern in _OTHERS for file in folder.glob(pattern)):
        return (
            f"{lacks}; it has {', '.join(others)}, which are not read. Use a revision of the model with {SINGLE}, or "
            "save it as such with transformers"
        )
    return f"{lacks}; {_WHOLE}"


def _library() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError('safetensors files need pip install "gpt2-lightning[huggingface]"') from None
    return safetensors.torch
