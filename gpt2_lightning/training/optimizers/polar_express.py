"""Polynomials of the Polar Express: their composition is as near to 1 as possible (Amsel et al. 2025, section 4).

Singular values of a matrix with Frobenius norm 1 are at most 1, and those of at least `LOWER` are in the interval
[l, u] = [LOWER, 1]. Each iteration applies the polynomial p(x) = ax + bx³ + cx⁵ with the smallest maximum of |1 - p(x)|
in its interval, and the interval of the next one is [p(l), 2 - p(l)]. No other composition of as many polynomials of
degree 5 has a smaller maximum error (theorem 4.1).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

Quintic = tuple[float, float, float]
"""Coefficients (a, b, c) of ax + bx³ + cx⁵."""
LOWER = 1e-3
"""Smallest singular value, as a share of the Frobenius norm, that the iterations bring near 1 (section 4.3)."""
_CUSHION = 0.02407327424182761
"""Lower end of the interval in which a polynomial is optimal, relative to its upper end. A lower one would need
coefficients that make singular values in the middle of the interval almost vanish (section 4.4)."""
_SAFETY = 1.01
"""Factor by which rounding in bfloat16 may exceed the interval (section 4.4)."""
_NARROW = 1 - 5e-6
"""Ratio of the ends of an interval above which its polynomial is the limit of narrow intervals, to rounding."""
_PRECISION = 1e-12


@lru_cache
def polar_express(steps: int) -> tuple[Quintic, ...]:
    """Compute the polynomials of all iterations.

    Args:
        steps: number of iterations.
    """
    found = []
    low, high = LOWER, 1.0
    for step in range(steps):
        a, b, c = minimax(max(low, _CUSHION * high), high)
        at_low, at_high = value((a, b, c), low), value((a, b, c), high)
        scale = 2 / (at_low + at_high)  # p(l) and p(u) are 1 ± one error, also where the cushion has raised l
        a, b, c = scale * a, scale * b, scale * c
        low = value((a, b, c), low)
        high = 2 - low
        last = step == steps - 1
        found.append((a, b, c) if last else (a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5))
    return tuple(found)


def value(polynomial: Quintic, x: float) -> float:
    """Evaluate ax + bx³ + cx⁵."""
    a, b, c = polynomial
    return x * (a + x * x * (b + x * x * c))


def minimax(low: float, high: float) -> Quintic:
    """Compute the polynomial with the smallest maximum of |1 - p(x)| in an interval, by Remez' algorithm.

    The error of the optimal polynomial has the same size, with alternating signs, at both ends of the interval and at
    the two extrema inside (Chebyshev's equioscillation theorem).

    Args:
        low: lower end of the interval, positive.
        high: upper end of the interval.
    """
    if low > _NARROW * high:
        return 1.875 / high, -1.25 / high**3, 0.375 / high**5  # the limit, whose first two derivatives are 0 at `high`
    inner = [low + (high - low) / 4, high - (high - low) / 4]
    error = 0.0
    while True:
        points = np.array([low, *inner, high])[:, None]
        unknown = np.hstack([points, points**3, points**5, [[1], [-1], [1], [-1]]])
        a, b, c, next_error = np.linalg.solve(unknown, np.ones(4)).tolist()
        if abs(next_error) <= abs(error) * (1 + _PRECISION):  # it grows from one choice of points to the next
            return a, b, c
        error = next_error
        root = math.sqrt(9 * b * b - 20 * a * c)
        inner = [math.sqrt((-3 * b - root) / (10 * c)), math.sqrt((-3 * b + root) / (10 * c))]  # zeros of p'
