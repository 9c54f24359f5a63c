from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.training.optimizers import orthogonalization, polar_express
from gpt2_lightning.training.optimizers.orthogonalization import Coefficients, orthogonalize
from gpt2_lightning.training.optimizers.polar_express import LOWER, Quintic, minimax

WIDTH = 21
SHAPES = [(WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH), (1, 7)]
# Algorithm 1 of Amsel et al. 2025, before the safety factor.
PUBLISHED = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]


@pytest.fixture
def exact() -> Iterator[None]:
    """Without the factor for rounding."""
    polar_express.polar_express.cache_clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(polar_express, "_SAFETY", 1.0)
        yield
    polar_express.polar_express.cache_clear()


def set_dtype(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(orthogonalization, "DTYPE", dtype)
    monkeypatch.setattr(orthogonalization, "_compute_dtype", lambda device: dtype)


def composed(polynomials: tuple[Quintic, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    for a, b, c in polynomials:
        x = a * x + b * x**3 + c * x**5
    return x


def svd_error(stack: Tensor, result: Tensor) -> float:
    """The largest distance of a result's singular values from 1, in the basis of the SVD of its matrix."""
    u, _, v = torch.linalg.svd(stack.double(), full_matrices=False)
    found = u.mT @ result.double() @ v.mT
    return float(torch.linalg.matrix_norm(found - torch.eye(found.size(-1)), ord=2).max())


@pytest.mark.usefixtures("exact")
def test_the_coefficients_are_those_of_the_paper() -> None:
    found = polar_express.polar_express(len(PUBLISHED))
    for ours, theirs in zip(found, PUBLISHED, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("low", "high"), [(0.02, 1.0), (0.3, 1.7), (0.9, 1.1), (0.999999, 1.0)])
def test_a_polynomial_has_the_smallest_maximum_error(low: float, high: float) -> None:
    """The error is largest at four points, with alternating signs; no polynomial is better at all of them."""
    x = np.linspace(low, high, 100_001)
    best = np.abs(1 - composed((minimax(low, high),), x)).max()
    turns = 1 - composed((minimax(low, high),), x)
    signs = np.sign(turns[np.abs(turns) > (1 - 1e-6) * best])
    if low < 0.99:  # the narrowest interval has the limit
        assert np.count_nonzero(np.diff(signs)) == 3
    for change in np.vstack([np.eye(3), -np.eye(3)]) * 1e-3:
        a, b, c = np.array(minimax(low, high)) + change
        assert np.abs(1 - composed(((a, b, c),), x)).max() > best


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 20, 99])
def test_singular_values_come_near_1_and_nearer_with_each_iteration(steps: int) -> None:
    x = np.geomspace(LOWER, 1, 10_001)
    errors = [np.abs(1 - composed(polar_express.polar_express(n), x)).max() for n in (steps, steps + 1)]
    assert errors[1] < errors[0] or errors[0] < 1e-12
    assert errors[0] < {1: 0.995, 3: 0.88, 5: 0.16}.get(steps, 1e-4)


def test_every_iteration_keeps_within_the_interval_of_the_next() -> None:
    """With rounding as large as the safety factor: a value beyond the interval would grow without bound."""
    x = np.linspace(0, 1, 100_001)
    for polynomial in polar_express.polar_express(12):
        x = composed((polynomial,), 1.01 * x)
        assert x.min() >= 0
        assert x.max() < 2


def newton_schulz(matrix: Tensor, coefficients: Coefficients) -> Tensor:
    """Five iterations written out in float64, for one matrix."""
    x = matrix.double() / matrix.double().square().sum().sqrt()
    for a, b, c in [(3.4445, -4.7750, 2.0315)] * 5 if coefficients == "jordan" else polar_express.polar_express(5):
        if x.size(0) <= x.size(1):
            gram = x @ x.T
            x = a * x + b * gram @ x + c * gram @ gram @ x
        else:
            gram = x.T @ x
            x = a * x + b * x @ gram + c * x @ gram @ gram
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("coefficients", ["jordan", "polar_express"])
def test_a_stack_is_orthogonalized_matrix_by_matrix(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    dtype: torch.dtype,
    tolerance: float,
    coefficients: Coefficients,
) -> None:
    """Matrices of very different sizes, among them one of zeros."""
    set_dtype(monkeypatch, dtype)
    torch.manual_seed(0)
    stack = torch.randn(4, *shape) * torch.tensor([1.0, 1e-4, 1e4, 0.0]).view(-1, 1, 1)
    found = orthogonalize(stack, 5, coefficients)
    for matrix, result in zip(stack[:3], found[:3], strict=True):
        expected = newton_schulz(matrix, coefficients)
        assert (result - expected).norm() < tolerance * expected.norm()
    assert not found[3].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_polar_express_is_near_the_factor_of_the_svd(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    set_dtype(monkeypatch, dtype)
    torch.manual_seed(0)
    stack = with_singular_values(shape)
    errors = {steps: svd_error(stack, orthogonalize(stack, steps, "polar_express")) for steps in (5, 6, 7)}
    rounding = 0.1 if dtype == torch.bfloat16 else 1e-3
    assert errors[5] < 0.16 + rounding
    assert errors[6] < 0.01 + rounding
    assert errors[7] < 1e-4 + rounding
    assert svd_error(stack, orthogonalize(stack, 7, "jordan")) > 0.1 or shape[0] == 1


@pytest.mark.parametrize("coefficient", range(3))
def test_a_wrong_coefficient_is_seen_in_the_singular_values(monkeypatch: pytest.MonkeyPatch, coefficient: int) -> None:
    set_dtype(monkeypatch, torch.float32)
    torch.manual_seed(0)
    stack = with_singular_values((WIDTH, WIDTH))
    wrong = [list(polynomial) for polynomial in polar_express.polar_express(7)]
    wrong[-1][coefficient] *= 1.02
    monkeypatch.setattr(orthogonalization, "POLYNOMIALS", {"polar_express": lambda steps: tuple(map(tuple, wrong))})
    assert svd_error(stack, orthogonalize(stack, 7, "polar_express")) > 5e-3


def with_singular_values(shape: tuple[int, int]) -> Tensor:
    """Random matrices (3, A, B) whose singular values are spread from 1 down to 0.003."""
    u, _, v = torch.linalg.svd(torch.randn(3, *shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -2.5, min(shape), dtype=torch.float64)
    return (u * values @ v).float()


def test_a_cpu_that_emulates_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is of one dtype on all ranks, whatever their processors are."""
    torch.manual_seed(0)
    stack = torch.randn(2, WIDTH, 2 * WIDTH)
    for has_amx, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx)
        assert orthogonalization._compute_dtype("cpu") == expected
        assert orthogonalize(stack, 5).dtype == torch.bfloat16
    assert orthogonalization._compute_dtype("cuda") == torch.bfloat16
