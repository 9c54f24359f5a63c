"""Verification of an adapter against its source, with the same base model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from gpt2_lightning.checkpoints.content import SCORE
from gpt2_lightning.conversion.verify import Check
from gpt2_lightning.huggingface import verify
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.peft import verify as verify_peft
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter


def check_written(check: Check, written: Path, adapter: TrainedAdapter, base: GPT2, score: Tensor | None) -> None:
    """Compare an adapter's folder as read by this program.

    Args:
        check: record of the results.
        written: folder of the adapter.
        adapter: expected adapter.
        base: base model of the adapter.
        score: expected head of a classifier, (labels, C); None for a language model.

    Raises:
        UserError: if tensors or logits differ.
    """
    found = adapters.read(written, base)
    again = dataclasses.replace(adapter, spec=found.spec, state=found.state)
    check.same(_all(again, found.score), _all(adapter, score), written)
    logits, logits_again = (
        _logits(one.load_into(recast(base, check.dtype), written), check.ids) for one in (adapter, again)
    )
    check.agree(logits_again, logits, "logits over the base when read back")


def check_in_peft(check: Check, path: Path, adapter: TrainedAdapter, base: GPT2, score: Tensor | None) -> None:
    """Compare the logits of an adapter's folder in PEFT.

    Args:
        check: record of the results.
        path: folder of the adapter.
        adapter: expected adapter.
        base: base model of the adapter.
        score: expected head of a classifier, (labels, C); None for a language model.

    Raises:
        UserError: if the logits differ.
    """
    ours = adapter.load_into(recast(base, check.dtype), path)
    if score is None:
        theirs = verify_peft.peft_logits(base, path, check.ids, check.dtype)
        check.agree_there(theirs, _logits(ours, check.ids), "logits over the base", "peft")
        return
    ids, mask = verify.random_texts(base.config, pad=None)
    theirs = verify_peft.peft_scores(base, path, len(score), ids, mask, check.dtype)
    check.agree_there(theirs, verify.classifier_scores(ours, score, ids, mask), "scores over the base", "peft")


def check_alone(check: Check, again: LoadedModel) -> None:
    """Compare the merged model of a checkpoint that contains only an adapter.

    Args:
        check: record of the results.
        again: model loaded from the checkpoint.

    Raises:
        UserError: if the tensors or the logits differ.
    """
    check.same(again.tensors(), check.source.tensors(), Path(again.location))
    check.agree(verify.model_logits(again.model, check.ids, check.dtype), check.expected, "logits when read back")


def _all(adapter: TrainedAdapter, score: Tensor | None) -> dict[str, Tensor]:
    return {**adapter.state, **({} if score is None else {SCORE: score})}


@torch.no_grad()
def _logits(model: GPT2, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids)
    return logits
