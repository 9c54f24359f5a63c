"""Deterministic mutations of valid files: of bytes, of JSON values, and of the members and values of a checkpoint."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from typing import Any

import torch

_NUMBERS = (0, 1, -1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 10**7)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2.5, 1e308, float("nan"), 10**7, 10**12, 2**63, 10**30),
    *("", "x", "2", "\ud800", "\x00", "a" * 100_000, [], {}, [[]], {"a": 1}, [1, "a"]),
)
_WORDS = (
    *(b"NaN", b"null", b"1e999", b'"', b",,,", b"\x00" * 64, b"\xff\xfe", b"PK\x03\x04"),
    *(b"[" * 100_000, b'{"a":' * 50_000),
)


def mutated(content: bytes, name: str, dice: random.Random) -> bytes:
    """Return a mutation of the content of a file, by its structure where it has one."""
    how = dice.random()
    if name.endswith(".ckpt") and how < 0.7:
        return _zip(content, dice) if how < 0.35 else _values(content, dice)
    if name.endswith(".json") and how < 0.7:
        return _json(content, dice)
    if name.endswith(".safetensors") and how < 0.5:
        size = struct.unpack("<Q", content[:8])[0]
        header = _json(content[8 : 8 + size], dice)
        return struct.pack("<Q", len(header)) + header + content[8 + size :]
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        content = _bytes(content, dice)
    return content


def _bytes(content: bytes, dice: random.Random) -> bytes:
    data, place = bytearray(content), dice.randrange(len(content) + 1)
    if dice.random() < 0.3:
        place = min(place, dice.randrange(1, 300))  # headers
    length = dice.choice((1, 2, 4, 8, 64, 1000))
    match dice.randrange(7):
        case 0:
            if place < len(data):
                data[place] ^= 1 << dice.randrange(8)
        case 1:
            del data[place:]
        case 2:
            del data[place : place + length]
        case 3:
            other = dice.randrange(len(data) + 1)
            data[place:place] = data[other : other + length]
        case 4:
            form = dice.choice(("<I", "<Q", ">I", ">Q"))
            number = dice.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(form))
            data[place : place + struct.calcsize(form)] = struct.pack(form, number)
        case 5:
            data[place:place] = dice.choice(_WORDS)
        case _:
            data[place : place + length] = dice.randbytes(length)
    return bytes(data)


def _json(content: bytes, dice: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except ValueError:
        return _bytes(content, dice)
    if dice.random() < 0.05:
        return dice.choice(_WORDS)
    return json.dumps(_changed(value, dice)).encode()


def _values(content: bytes, dice: random.Random) -> bytes:
    """Change a value or a tensor within the content of a checkpoint."""
    stream = io.BytesIO()
    torch.save(_changed(torch.load(io.BytesIO(content), weights_only=True), dice), stream)
    return stream.getvalue()


def _zip(content: bytes, dice: random.Random) -> bytes:
    """Change bytes of a member of an archive, with its right checksum; now and then compress it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        chosen = dice.choice([*names, *[name for name in names if name.endswith("data.pkl")] * len(names)])
        kind = zipfile.ZIP_DEFLATED if dice.random() < 0.1 else zipfile.ZIP_STORED
        for name in names:
            data = old.read(name)
            if name == chosen:
                data = _bytes(data, dice) if kind == zipfile.ZIP_STORED else b"\x00" * 10**7
            new.writestr(name, data, kind)
    return stream.getvalue()


def _changed(value: Any, dice: random.Random) -> Any:
    """Change one value within nested containers, at a random depth."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        found = dict(value)
        what = dice.random()
        if what < 0.1:
            del found[key]
        elif what < 0.15:
            found[dice.choice(("", "x", "n_layer", "__class__"))] = dice.choice(_VALUES)
        else:
            found[key] = _changed(found[key], dice)
        return found
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        return [*value[:place], _changed(value[place], dice), *value[place + 1 :]]
    if isinstance(value, torch.Tensor) and dice.random() < 0.7:
        return _tensor(value, dice)
    if isinstance(value, str) and value.startswith("{") and dice.random() < 0.8:
        return _json(value.encode(), dice).decode(errors="replace")
    return dice.choice(_VALUES)


def _tensor(value: torch.Tensor, dice: random.Random) -> torch.Tensor:
    changes = (
        lambda: value.flatten()[:1].clone(),
        lambda: value.to(dice.choice((torch.int64, torch.complex64, torch.float16, torch.bool, torch.float64))),
        lambda: value.to_sparse() if value.dim() else value.reshape(1),
        lambda: value.to("meta"),
        lambda: torch.zeros(1).expand(10**6, 10**6),
        lambda: torch.full(value.shape, float("nan")),
        lambda: torch.zeros(0),
        lambda: value.unsqueeze(0),
    )
    return dice.choice(changes)()
