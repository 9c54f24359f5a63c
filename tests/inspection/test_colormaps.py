import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2_lightning.inspection.colormaps import diverging, sequential

# What is left of linear red, green and blue for eyes without the red or the green cones (Viénot et al. 1999).
PROTANOPIA = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def linear(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = colors / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def luminance(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return rgb @ [0.2126, 0.7152, 0.0722]


def lightness(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """L* of CIELAB, from 0 to 100."""
    y = luminance(rgb)
    return 116 * np.where(y > 0.008856, np.cbrt(y), 7.787 * y + 16 / 116) - 16


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("eyes", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_lightness_tells_the_order_to_every_eye(dark: bool, eyes: NDArray[np.float64]) -> None:
    seen = lightness((linear(sequential(dark)) @ eyes.T).clip(0, 1))
    tens = np.diff(seen[::10]) * (1 if dark else -1)
    assert tens.min() > 1, "each ten steps are a visible difference"


@pytest.mark.parametrize("dark", [False, True])
def test_steps_are_even(dark: bool) -> None:
    tens = np.abs(np.diff(lightness(linear(sequential(dark)))[::10]))
    assert tens.max() < 2 * tens.min()


def test_zero_is_nearly_the_page_and_one_far_from_it() -> None:
    light, dark = (luminance(linear(sequential(theme)))[[0, -1]] for theme in (False, True))
    assert light[0] > 0.9 > 0.1 > light[1]
    assert dark[0] < 0.02 < 0.7 < dark[1]
    assert sequential(False).shape == (256, 3)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("eyes", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_signs_are_told_apart_by_every_eye(dark: bool, eyes: NDArray[np.float64]) -> None:
    """As light on either side, and another share of blue."""
    colors = diverging(dark)
    assert colors.shape == (511, 3)
    assert colors[255].tolist() == sequential(dark)[0].tolist()
    seen = (linear(colors) @ eyes.T).clip(0, 1)
    distance = np.abs(lightness(seen) - lightness(seen)[255])
    for side in (distance[255::-10], distance[255::10]):
        assert np.diff(side).min() > 0.5, "farther from 0 is farther from the page"
    blue = seen[:, 2] / (seen.sum(axis=1) + 1e-6)
    assert (blue[:205] - blue[:305:-1]).min() > 0.15


@pytest.mark.parametrize("dark", [False, True])
def test_differences_of_either_sign_are_as_strong(dark: bool) -> None:
    seen = lightness(linear(diverging(dark)))
    assert np.abs(seen - seen[::-1]).max() < 4
