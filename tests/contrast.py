"""Contrast of colors by WCAG 2, section 1.4.3."""

from __future__ import annotations

import re


def contrast(ground: str, text: str) -> float:
    """Ratio of the luminances of two colors, from 1 to 21; letters need 4.5."""
    low, high = sorted((luminance(ground), luminance(text)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`, of `rgb(…)` of 255ths or of `color(srgb …)`."""
    if color.startswith("#"):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    else:
        numbers = [float(number) for number in re.findall(r"[\d.]+", color.removeprefix("color(srgb"))][:3]
        parts = numbers if color.startswith("color(") else [number / 255 for number in numbers]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
