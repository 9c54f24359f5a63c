"""An adapter that was written alone is compared with its source, over the same base."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from gpt2_lightning.app.conversion_check import Check
from gpt2_lightning.app.source import Source
from gpt2_lightning.app.trained_adapter import TrainedAdapter
from gpt2_lightning.checkpoints.content import SCORE
from gpt2_lightning.huggingface import peft_adapters, verify, verify_peft
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2


def check_peft(check: Check, written: Path, adapter: TrainedAdapter, base: GPT2, score: Tensor | None) -> None:
    """What our reader and PEFT make of an adapter's folder.

    Args:
        check: keeps what there is to say.
        written: the folder.
        adapter: what was written.
        base: the model that it was trained on.
        score: a classifier's head, (labels, C), written with it.

    Raises:
        UserError: if anything differs.
    """
    found = peft_adapters.read(written, base)
    again = dataclasses.replace(adapter, spec=found.spec, state=found.state)
    check.same(_all(again, found.score), _all(adapter, score), written)
    over, over_again = (one.load_into(recast(base, check.dtype), written) for one in (adapter, again))
    if score is None:
        what, expected = "logits over the base", _logits(over, check.ids)
        read_back = _logits(over_again, check.ids)
        theirs = verify_peft.their_adapted_logits(base, written, check.ids, check.dtype)
    else:
        ids, mask = verify.random_texts(base.config, pad=None)
        what, expected = "scores over the base", verify.our_scores(over, score, ids, mask)
        read_back = verify.our_scores(over_again, score, ids, mask)
        theirs = verify_peft.their_adapted_scores(base, written, len(score), ids, mask, check.dtype)
    check.agree(read_back, expected, f"{what} when read back")
    check.agree_there(theirs, expected, what, "peft")


def check_alone(check: Check, again: Source) -> None:
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
