"""Which prompts are read between two tokens."""

from __future__ import annotations

import pytest
import torch

from gpt2_lightning.generation import Piece, Sampling
from gpt2_lightning.serving import continuous, lane
from gpt2_lightning.serving.errors import RequestError
from gpt2_lightning.serving.lane import GenerationLane, Job, Limits
from gpt2_lightning.serving.models import ServedModel
from tests.serving.served import loaded


def job(length: int, found: list[Piece | RequestError]) -> Job:
    """A text of forty tokens after a prompt."""
    return Job([torch.arange(length) % 20], Sampling(max_new_tokens=40), found.append)


def test_short_prompts_join_together_and_long_ones_leave_every_step_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "CHUNK", 8)
    monkeypatch.setattr(lane, "CHUNK", 8)
    requests = GenerationLane(ServedModel("letters", loaded()), Limits(rows=4))
    first: list[Piece | RequestError] = []
    second: list[Piece | RequestError] = []
    requests.waiting.extend([job(3, first), job(4, [])])
    requests.advance()
    assert (requests.n_running, len(first)) == (2, 2)  # the token after the prompt, and that of the step
    requests.waiting.append(job(20, second))
    for step, begun in ((3, 0), (4, 0), (5, 2)):
        requests.advance()
        assert (len(first), len(second)) == (step, begun)
