"""A corpus as token ids in two `.npy` files, encoded once and mapped into memory from then on."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2_lightning.data.corpus import Splits
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class TokenFiles:
    """Where the ids of both parts lie, and how many bytes of text a token of each stands for on average."""

    train: Path
    val: Path
    bytes_per_token: dict[str, float]
    """Under `train` and `val`."""


def encode_once(splits: Splits, tokenizer: Tokenizer, cache_dir: Path) -> TokenFiles:
    """Encode both parts into `cache_dir`, unless the same text was encoded by the same tokenizer before.

    Raises:
        UserError: if a part has a character that the tokenizer lacks, or the folder cannot be written.
    """
    folder = cache_dir / f"{splits.fingerprint()[:16]}-{tokenizer.hash()[:16]}"
    files = {"train": folder / "train.npy", "val": folder / "val.npy"}
    for name, text in (("train", splits.train), ("val", splits.val)):
        if not files[name].exists():
            try:
                ids = tokenizer.encode(text)
            except UserError as error:
                raise UserError(
                    f"in the {'validation' if name == 'val' else 'training'} part of the text: {error}"
                ) from None
            _write(files[name], ids)
    texts = {"train": splits.train, "val": splits.val}
    bytes_per_token = {n: len(text.encode()) / np.load(files[n], mmap_mode="r").size for n, text in texts.items()}
    return TokenFiles(files["train"], files["val"], bytes_per_token)


def _write(path: Path, ids: np.ndarray) -> None:
    """Under a temporary name first: what has the final name is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            # np.save writes past Python's file, and does not notice a full disk.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(ids))
            file.write(ids.data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"cache_dir: the token file {path} cannot be written: {error.strerror}; set cache_dir to a folder of yours"
        ) from None
