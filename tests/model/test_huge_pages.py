"""Tensors in huge pages keep their values and addresses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpt2_lightning.model.inference import huge_pages
from gpt2_lightning.model.inference.huge_pages import collapse, empty

MIB = 2**20
ODD = 5 * MIB // 4 + 7


def packed(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Arguments of madvise, which is not called."""
    found: list[tuple[int, int, int]] = []

    def record(start: int, size: int, advice: int) -> int:
        found.append((start, size, advice))
        return 0

    monkeypatch.setattr(huge_pages, "_madvise", lambda: record)
    return found


@pytest.mark.parametrize("elements", [ODD, 2 * MIB])
def test_a_tensor_keeps_its_values_and_its_address(elements: int) -> None:
    tensor = torch.arange(elements, dtype=torch.float32)
    before = tensor.data_ptr()
    collapse(tensor)
    assert tensor.data_ptr() == before
    assert torch.equal(tensor, torch.arange(elements, dtype=torch.float32))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_a_packed_weight_multiplies_as_before() -> None:
    weight, x = torch.randn(1200, 900), torch.randn(3, 900)
    held = packed(weight)
    expected = torch.ops.mkldnn._linear_pointwise(x, held, None, "none", [], "")
    collapse(held)
    assert torch.equal(torch.ops.mkldnn._linear_pointwise(x, held, None, "none", [], ""), expected)


def test_the_range_is_of_whole_huge_pages_within_the_tensor(calls: list[tuple[int, int, int]]) -> None:
    storage = torch.empty(4 * MIB)
    for offset in (0, 5, MIB // 2):
        part = storage[offset : offset + ODD]
        collapse(part)
        start, size, _ = calls.pop()
        assert start % (2 * MIB) == 0 == size % (2 * MIB)
        assert part.data_ptr() <= start < start + size <= part.data_ptr() + part.nbytes
        assert size >= 2 * MIB


def test_a_tensor_without_a_whole_huge_page_is_left(calls: list[tuple[int, int, int]]) -> None:
    collapse(torch.empty(2 * MIB // 4 - 1))
    collapse(torch.empty(0))
    collapse(torch.empty(4 * MIB, device="meta"))
    assert not calls


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    huge_pages._madvise.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    collapse(torch.zeros(2 * MIB))
    huge_pages._madvise.cache_clear()


def test_an_older_linux_refuses_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "_COLLAPSE", -1)
    test_a_tensor_keeps_its_values_and_its_address(ODD)


def test_the_memory_is_in_huge_pages_where_linux_has_them() -> None:
    setting, release = Path("/sys/kernel/mm/transparent_hugepage/enabled"), Path("/proc/sys/kernel/osrelease")
    version = [int(number) for number in re.findall(r"\d+", release.read_text())[:2]] if release.exists() else []
    if version < [6, 1] or not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this system has no huge pages, or a Linux older than 6.1")
    tensor = torch.ones(8 * MIB)
    before = huge_bytes(tensor)
    collapse(tensor)
    assert before < huge_bytes(tensor) >= tensor.nbytes - 4 * MIB


def test_new_memory_is_in_huge_pages_where_linux_has_them() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this system has no huge pages")
    before = huge_bytes(empty(16 * MIB))
    filled = empty(16 * MIB).fill_(2)
    assert before == 0 < huge_bytes(filled) >= filled.nbytes - 4 * MIB
    assert filled.sum() == 32 * MIB


@pytest.mark.parametrize("count", [0, 3, ODD])
def test_new_memory_without_huge_pages(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert empty(count).shape == (count,)
    monkeypatch.delattr("mmap.MADV_HUGEPAGE", raising=False)
    tensor = empty(count).fill_(1)
    assert (tensor.shape, tensor.dtype) == ((count,), torch.float32)


def huge_bytes(tensor: Tensor) -> int:
    """Bytes in huge pages of the mapping that holds the middle of a tensor."""
    middle, inside = tensor.data_ptr() + tensor.nbytes // 2, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if area := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(area[1], 16) <= middle < int(area[2], 16)
        elif inside and line.startswith("AnonHugePages"):
            return 1024 * int(line.split()[1])
    raise AssertionError("the tensor is in no mapping")
