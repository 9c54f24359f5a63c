"""An adapter that was written alone is compared with its source, over the same base."""

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
    """What our reader makes of an adapter's folder.

    Args:
        check: keeps what there is to say.
        written: the folder.
        adapter: what was written.
        base: the model that it was trained on.
        score: a classifier's head, (labels, C), written with it.

    Raises:
        UserError: if anything differs.
    """
    found = adapters.read(written, base)
    again = dataclasses.replace(adapter, spec=found.spec, state=found.state)
    check.same(_all(again, found.score), _all(adapter, score), written)
    logits, logits_again = (
        _logits(one.load_into(recast(base, check.dtype), written), check.ids) for one in (adapter, again)
    )
    check.agree(logits_again, logits, "logits over the base when read back")


def check_in_peft(check: Check, place: Path, adapter: TrainedAdapter, base: GPT2, score: Tensor | None) -> None:
    """What PEFT computes with an adapter's folder.

    Args:
        check: keeps what there is to say.
        place: the folder.
        adapter: the same here.
        base: the model that it was trained on.
        score: a classifier's head, (labels, C), that is there as well.

    Raises:
        UserError: if that is not what is computed here.
    """
    ours = adapter.load_into(recast(base, check.dtype), place)
    if score is None:
        theirs = verify_peft.their_adapted_logits(base, place, check.ids, check.dtype)
        check.agree_there(theirs, _logits(ours, check.ids), "logits over the base", "peft")
        return
    ids, mask = verify.random_texts(base.config, pad=None)
    theirs = verify_peft.their_adapted_scores(base, place, len(score), ids, mask, check.dtype)
    check.agree_there(theirs, verify.our_scores(ours, score, ids, mask), "scores over the base", "peft")


def check_alone(check: Check, again: LoadedModel) -> None:
    """What our reader makes of a checkpoint with an adapter alone: the same merged model.

    Args:
        check: keeps what there is to say.
        again: what was read.

    Raises:
        UserError: if anything differs.
    """
    check.same(again.tensors(), check.source.tensors(), Path(again.place))
    check.agree(verify.our_logits(again.model, check.ids, check.dtype), check.expected, "logits when read back")


def _all(adapter: TrainedAdapter, score: Tensor | None) -> dict[str, Tensor]:
    return {**adapter.state, **({} if score is None else {SCORE: score})}


@torch.no_grad()
def _logits(model: GPT2, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids)
    return logits
