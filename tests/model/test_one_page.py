"""`model/gpt2.py` holds everything that GPT-2 computes: no other file of the package takes part in training it.

For several documents in a window, `model/documents.py` makes the mask.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor

import gpt2_lightning
from gpt2_lightning.model import GPT2, GPT2Config, KVCache
from gpt2_lightning.model import gpt2 as page

PACKAGE = Path(gpt2_lightning.__file__).parent
CONFIG = GPT2Config(vocab_size=11, block_size=16, n_layer=2, n_head=2, n_embd=12, resid_pdrop=0.1, attn_pdrop=0.1)
IDS = torch.randint(11, (3, 16), generator=torch.Generator().manual_seed(0))
DOCUMENT_IDS = torch.arange(16).expand(3, 16) // 6


@contextmanager
def files_entered() -> Iterator[set[str]]:
    """Collect the files of this package whose functions are called, as paths below it."""
    found = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            found.add(file.relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("document_ids", [None, DOCUMENT_IDS], ids=["one document", "several"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_runs_this_page_and_the_mask_of_documents(document_ids: Tensor | None, checkpointing: bool) -> None:
    """Twenty steps, which the network learns from."""
    torch.manual_seed(0)
    model = GPT2(CONFIG)
    model.gradient_checkpointing = checkpointing
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    with files_entered() as files:
        for _ in range(20):
            loss = model(IDS, IDS, document_ids=document_ids) / IDS.numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert files == {"model/gpt2.py", *([] if document_ids is None else ["model/documents.py"])}
    assert losses[-1] < losses[0] / 2


def test_logits_come_from_this_page_alone() -> None:
    model = GPT2(CONFIG)
    with files_entered() as files:
        model(IDS).sum().backward()
    assert files == {"model/gpt2.py"}


def test_another_file_would_be_seen() -> None:
    model, cache = GPT2(CONFIG), KVCache(CONFIG, 3, IDS.device, torch.float32)
    with torch.no_grad(), files_entered() as files:
        model(IDS, cache=cache)
    inference = {"model/inference/kv_cache.py", "model/inference/onednn.py", "model/kernels/cudnn.py"}
    assert files == {"model/gpt2.py", *inference}


def test_the_page_is_short_and_imports_torch_alone() -> None:
    source = Path(page.__file__).read_text()
    assert len(source.splitlines()) <= 300
    modules = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    outside = {module.split(".")[0] for module in modules if not module.startswith("gpt2_lightning.model")}
    assert outside - sys.stdlib_module_names == {"torch"}
