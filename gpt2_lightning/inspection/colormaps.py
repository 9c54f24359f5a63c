"""Perceptually uniform colormaps: sequential for 0 to 1, diverging for -1 to 1.

Lightness is linear in the value, so the order is visible without hue, and in grayscale. 0 has the color of the page.
Colors are interpolated in OKLab (Ottosson 2020, "A perceptual color space for image processing").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LIGHT = ((0.985, 0.005, 95), (0.81, 0.09, 170), (0.63, 0.11, 215), (0.45, 0.13, 260), (0.28, 0.10, 290))
_DARK = ((0.205, 0.015, 265), (0.39, 0.12, 280), (0.575, 0.10, 235), (0.76, 0.12, 165), (0.945, 0.12, 105))
"""Lightness, chroma and hue in degrees, at equal distances."""
_MORE_LIGHT = ((0.985, 0.005, 95), (0.81, 0.11, 68), (0.63, 0.15, 52), (0.47, 0.13, 42), (0.33, 0.09, 38))
_LESS_LIGHT = ((0.985, 0.005, 95), (0.81, 0.09, 238), (0.63, 0.13, 248), (0.47, 0.14, 257), (0.33, 0.11, 265))
_MORE_DARK = ((0.205, 0.015, 265), (0.38, 0.08, 48), (0.56, 0.13, 52), (0.74, 0.14, 64), (0.91, 0.08, 80))
_LESS_DARK = ((0.205, 0.015, 265), (0.38, 0.10, 262), (0.56, 0.14, 252), (0.74, 0.11, 240), (0.91, 0.05, 225))
"""Equal lightness on both sides; blue and orange are distinguishable with color vision deficiency."""
_TO_CONES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@functools.cache
def sequential(dark: bool) -> NDArray[np.uint8]:
    """256 sRGB colors, (256, 3), from the color of the page to dark or, on dark pages, to light."""
    return _between(_DARK if dark else _LIGHT)


@functools.cache
def diverging(dark: bool) -> NDArray[np.uint8]:
    """511 sRGB colors, (511, 3): blue for -1, the color of the page for 0, orange for 1."""
    less, more = (_between(points) for points in ((_LESS_DARK, _MORE_DARK) if dark else (_LESS_LIGHT, _MORE_LIGHT)))
    return np.concatenate([less[:0:-1], more])


def _between(points: Sequence[tuple[float, float, float]]) -> NDArray[np.uint8]:
    """Interpolate 256 colors between points of lightness, chroma and hue."""
    lightness, chroma, hue = np.array(points).T
    angle = np.radians(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    at = np.linspace(0, len(lab) - 1, 256)
    even = np.stack([np.interp(at, np.arange(len(lab)), channel) for channel in lab.T], axis=1)
    linear = ((even @ _TO_CONES.T) ** 3 @ _TO_LINEAR_RGB.T).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)
