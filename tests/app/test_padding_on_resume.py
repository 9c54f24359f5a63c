"""A run whose vocabulary is padded otherwise than the configuration: earlier versions did not pad GPT-2's sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gpt2_lightning.app.run.resume import with_saved_padding
from tests.app.tiny_runs import TINY, newest_run

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("saved", "padding"),
    [("model: {n_layer: 2}", 1), ("model: {pad_vocab_to_multiple_of: 8}", 8), ("model: [", 64), ("[]", 64), (None, 64)],
)
def test_the_padding_of_the_run_is_taken_where_its_configuration_can_be_read(
    saved: str | None, padding: int, tmp_path: Path
) -> None:
    (tmp_path / "old" / "checkpoints").mkdir(parents=True)
    (tmp_path / "old" / "checkpoints" / "step-000002.ckpt").touch()
    if saved is not None:
        (tmp_path / "old" / "config.yaml").write_text(saved)
    plain = {"resume": "auto", "run_dir": str(tmp_path / "new"), "model": {"pad_vocab_to_multiple_of": 64}}
    assert with_saved_padding(plain)["model"] == {"pad_vocab_to_multiple_of": padding}
    assert with_saved_padding({**plain, "resume": "never"})["model"] == plain["model"]


def test_a_run_resumes_with_the_rows_that_it_has(run_verb: Run, workplace: Path, small_text: Path) -> None:
    settings = [*TINY, "data=text", f"data.path={small_text}", "callbacks.samples=null"]
    assert run_verb("train", *settings, "trainer.max_steps=2").code == 0
    again = run_verb("train", *settings, "trainer.max_steps=4", "model.pad_vocab_to_multiple_of=64", "resume=auto")
    assert again.code == 0, again
    assert "pad_vocab_to_multiple_of=1, as in the run that is resumed" in again.out
    run = newest_run(workplace / "runs" / "text-tiny")
    weights = torch.load(run / "checkpoints" / "step-000004.ckpt", weights_only=True)["state_dict"]["wte.weight"]
    assert len(weights) < 64
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["pad_vocab_to_multiple_of"] == 1
