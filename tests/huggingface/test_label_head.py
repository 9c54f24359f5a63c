"""What config.json says of a classifier's labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config as TheirConfig
from transformers import GPT2ForSequenceClassification

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import config_to_huggingface, folder
from gpt2_lightning.huggingface.label_head import LabelHead, without_own_head
from tests.huggingface.networks import CONFIG, lively, some_ids

SCORE = torch.arange(70.0).view(2, 35) / 70


@pytest.mark.parametrize(
    ("fields", "labels", "kind"),
    [
        ({}, ["LABEL_0", "LABEL_1"], "single"),
        ({"id2label": {"0": "no", "1": "yes"}}, ["no", "yes"], "single"),
        ({"problem_type": None, "id2label": {"1": "yes", "0": "no"}}, ["no", "yes"], "single"),
        ({"problem_type": "multi_label_classification"}, ["LABEL_0", "LABEL_1"], "multi"),
    ],
)
def test_labels_are_read(fields: dict[str, Any], labels: list[str], kind: str) -> None:
    assert LabelHead.from_config(fields, SCORE, 13).metadata() == (labels, kind, 13)


@pytest.mark.parametrize("fields", [{}, {"problem_type": "regression", "id2label": {"0": "LABEL_0"}}])
def test_one_score_is_regression_where_nothing_else_is_said(fields: dict[str, Any]) -> None:
    assert LabelHead.from_config(fields, SCORE[:1], 13).metadata() == ([], "regression", 13)
    several = fields | {"problem_type": "multi_label_classification"}
    assert LabelHead.from_config(several, SCORE[:1], 13).metadata() == (["LABEL_0"], "multi", 13)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problem_type": "ranking"}, "problem_type: 'ranking' is not supported, only single_label"),
        ({"problem_type": "regression"}, "problem_type: regression with 2 scores"),
        ({"id2label": {"0": "no"}}, "id2label: .* does not name 2 labels"),
        ({"id2label": ["no", "yes"]}, "id2label: .* does not name 2 labels"),
    ],
)
def test_labels_that_do_not_fit_are_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelHead.from_config(fields, SCORE, 13)


def test_a_folder_that_transformers_wrote_is_read_whole(tmp_path: Path) -> None:
    fields = {**config_to_huggingface(CONFIG), "id2label": {0: "a", 1: "b", 2: "c"}}
    torch.manual_seed(4)
    theirs = GPT2ForSequenceClassification(
        TheirConfig(**fields, bos_token_id=1, eos_token_id=1, pad_token_id=22)
    ).eval()
    theirs.save_pretrained(tmp_path)
    found, head = folder.read(tmp_path).model, folder.read_head(tmp_path)
    assert head is not None
    assert head.metadata() == (["a", "b", "c"], "single", 13)
    ids = some_ids() % 22
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(found.features(ids)[:, -1] @ head.score.T, expected, rtol=0, atol=1e-5)


def damaged(path: Path, change: dict[str, Any]) -> Path:
    folder.write(lively(), None, path, "", 10**9, LabelHead(SCORE, ["a", "b"], "single", 13))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | change))
    return path


def test_a_folder_whose_head_does_not_fit_is_told(tmp_path: Path) -> None:
    assert folder.read_head(damaged(tmp_path / "whole", {})) is not None
    with pytest.raises(UserError, match=r"score\.weight .*\(2, 35\).* 40"):
        folder.read_head(damaged(tmp_path / "wide", {"n_embd": 40}))
    with pytest.raises(UserError, match=r"config\.json .*problem_type"):
        folder.read_head(damaged(tmp_path / "odd", {"problem_type": "ranking"}))
    folder.write(lively(), None, tmp_path / "plain", "", 10**9)
    assert folder.read_head(tmp_path / "plain") is None
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    classifier = config | {"architectures": ["GPT2ForSequenceClassification"]}
    (tmp_path / "plain" / "config.json").write_text(json.dumps(classifier))
    with pytest.raises(UserError, match=r"score\.weight is missing"):
        folder.read_head(tmp_path / "plain")


def test_a_model_gives_up_its_own_head_and_keeps_the_rest() -> None:
    model = lively(dataclasses.replace(CONFIG, tied_head=False))
    without = without_own_head(model)
    assert without.config.tied_head
    assert torch.equal(without.lm_head.weight, model.wte.weight)
    with torch.no_grad():
        assert torch.equal(without.features(some_ids()), model.features(some_ids()))
    assert not torch.equal(model.lm_head.weight, model.wte.weight)
    assert without_own_head(lively()).lm_head.weight.shape == (23, 35)
