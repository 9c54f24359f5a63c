"""Token sequences for tests: an id is its own place, unless ids are given."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gpt2_lightning.data.shards.sequence import TokenSequence

END = 9
"""The id that closes a document, in tests of documents."""
_numbers = itertools.count()


def sequence_of(folder: Path, ids: ArrayLike, cuts: Sequence[int] = (), dtype: str = "<u2") -> TokenSequence:
    """Ids in new files of a folder, cut where it says."""
    files = []
    for part in np.split(np.asarray(ids), cuts):
        file = folder / f"{next(_numbers)}.bin"
        file.write_bytes(part.astype(dtype).tobytes())
        files.append((file, 0, part.size))
    return TokenSequence(files, np.dtype(dtype))
