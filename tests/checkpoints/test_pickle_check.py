"""Pickles of a few bytes that take exponential time or memory to load are refused before `torch.load`."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.pickle_check import excess_of
from gpt2_lightning.errors import UserError

START = b"\x80\x02"
CALL = b")R."
NOT_PLAIN = "holds something other than tensors and plain values"


def doubled_lists(depth: int) -> bytes:
    """A list that contains the next twice, and so on."""
    return b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(depth))


def doubled_tuples(depth: int) -> bytes:
    return b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(depth))


BOMBS = {
    "a call of nested lists": (doubled_lists(60) + CALL, "repeats more than 1,000,000 values"),
    "a call of a text": (b"X\x01\x00\x00\x00a" + CALL, NOT_PLAIN),
    "a call of a large array": (b"cbuiltins\nbytearray\nJ\x00\x00\x00\x40\x85R" + CALL, NOT_PLAIN),
    "a key of nested tuples": (b"}" + doubled_tuples(60) + b"K\x01s.", "repeats more than 1,000,000 values"),
    "lists filled from outside in": (b"]q\x00]q\x010h\x00(h\x01h\x01e.", "contains itself"),
    "a list in itself": (b"]q\x00h\x00a.", "contains itself"),
    "a long name of a type": (b"ctorch\n" + b"a" * 2_000_000 + b"\n.", "names a type with 2,000,006 characters"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "bare pickle"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_crafted_pickle_is_refused_at_once(tmp_path: Path, bomb: str, legacy: bool) -> None:
    pickled, message = BOMBS[bomb]
    path = tmp_path / "crafted.ckpt"
    if legacy:
        path.write_bytes(START + pickled)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("crafted/data.pkl", START + pickled)
            archive.writestr("crafted/version", "3")
    start = time.monotonic()
    with pytest.raises(UserError, match=message):
        files.read(path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "pickles"])
def test_shared_values_are_read(tmp_path: Path, legacy: bool) -> None:
    weight, betas, names = torch.randn(3), (0.9, 0.95), ["a"] * 3000
    content = {"w": weight, "tied": weight, "view": weight[:2], "groups": [{"betas": betas, "names": names}] * 300}
    content["state_dict"] = torch.nn.Linear(2, 2).state_dict()
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    found = files.read(tmp_path / "a.ckpt")
    assert torch.equal(found["tied"], weight)
    assert found["groups"] == content["groups"]


def test_the_check_ends_where_the_pickle_ends() -> None:
    stream = io.BytesIO(START + b"]." + b"the next")
    assert excess_of(stream) is None
    assert stream.read() == b"the next"
