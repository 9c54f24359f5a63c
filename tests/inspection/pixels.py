"""Colors in a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread


def ink(picture: Path, color: tuple[int, int, int]) -> int:
    """Pixels of about a color."""
    pixels = imread(picture)[..., :3]
    return int((np.abs(pixels - np.array(color) / 255).max(axis=-1) < 0.1).sum())
