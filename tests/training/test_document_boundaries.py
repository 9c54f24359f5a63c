"""Training on documents that do not see each other."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2
from gpt2_lightning.training.optimizers import AdamW
from tests.training.short_run import BLOCK, CONFIG, Plan, Run

Train = Callable[..., Run]
KINDS: list[Documents] = ["joined", "masked", "separate"]


@pytest.fixture(scope="module")
def runs(train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs that differ in what they make of documents."""
    return {kind: train(Plan(tmp_path_factory.mktemp(kind), documents=kind)) for kind in KINDS}


def mean_loss(model: GPT2, pieces: list[list[int]]) -> float:
    """Mean negative log-likelihood over pieces of text of which each is read by itself."""
    total, count = 0.0, 0
    for piece in pieces:
        log_probabilities = model(torch.tensor([piece[:-1]]))[0].log_softmax(-1)
        total -= sum(float(row[target]) for row, target in zip(log_probabilities, piece[1:], strict=True))
        count += len(piece) - 1
    return total / count


def pieces_of(ids: list[int], end: int, documents: Documents) -> list[list[int]]:
    """What a model sees at once, with the target of the last token."""
    blocks = [ids[i : i + BLOCK + 1] for i in range(0, len(ids) - 1, BLOCK)]
    if documents == "joined":
        return blocks
    pieces = []
    for text in blocks if documents == "masked" else [ids]:
        starts = [0, *(i for i, token in enumerate(text[:-1]) if token == end and i > 0)]
        stops = [*(start + 1 for start in starts[1:]), len(text)]
        for start, stop in zip(starts, stops, strict=True):
            document = text[start:stop]
            pieces += [document[i : i + BLOCK + 1] for i in range(0, len(document) - 1, BLOCK)]
    return pieces


@pytest.mark.parametrize("documents", KINDS)
@torch.no_grad()
def test_validation_loss_is_that_of_documents_read_as_told(
    runs: dict[str, Run], tokens: Tokens, documents: Documents
) -> None:
    run = runs[documents]
    end = run.data.end_of_text
    assert end is not None
    ids = tokens.val.slice(0, len(tokens.val)).tolist()
    assert 3 < ids.count(end) < 20
    for step, loss in run.column("val/loss").items():
        model = GPT2(CONFIG).eval().double()
        model.load_state_dict(run.checkpoint(f"step-{step:06d}.ckpt")["state_dict"])
        expected = {kind: mean_loss(model, pieces_of(ids, end, kind)) for kind in KINDS}
        assert loss == pytest.approx(expected[documents], rel=2e-6)
        assert all(abs(loss - other) > 5e-5 for kind, other in expected.items() if kind != documents), "they differ"


@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_training_learns(runs: dict[str, Run], documents: Documents) -> None:
    losses = list(runs[documents].column("val/loss").values())
    assert losses[-1] < losses[0] < math.log(CONFIG.vocab_size)


def test_tokens_count_what_separate_windows_predict(runs: dict[str, Run]) -> None:
    """An epoch predicts 359 tokens, in windows of which those at the end of documents are short."""
    data = runs["separate"].data
    assert data.samples.per_epoch > 359 / BLOCK
    assert runs["separate"].column("tokens")[12] == round(72 * 359 / data.samples.per_epoch)
    assert runs["masked"].column("tokens")[12] == 72 * BLOCK


@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    train: Train, runs: dict[str, Run], tmp_path: Path, documents: Documents
) -> None:
    whole = runs[documents]
    plan = Plan(tmp_path, documents=documents)
    resumed = train(plan, resume=whole.run_dir / "checkpoints" / "step-000006.ckpt")
    assert all(torch.equal(w, resumed.model.state_dict()[name]) for name, w in whole.model.state_dict().items())


@pytest.mark.parametrize("documents", ["masked", "separate"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_accumulated_gradients_train_like_the_whole_batch(
    train: Train, tmp_path: Path, documents: Documents, micro_batch_size: int
) -> None:
    """Also where micro-batches predict different numbers of tokens: the mean of their means would be another loss."""
    plan = Plan(tmp_path / "whole", documents=documents, optimizer=AdamW(lr=0.1, eps=0.01), max_steps=6)
    whole = train(plan)
    parts = train(dataclasses.replace(plan, run_dir=tmp_path / "parts", micro_batch_size=micro_batch_size))
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], weight, atol=2e-5, rtol=0, msg=name)
    assert parts.column("grad_norm") == pytest.approx(whole.column("grad_norm"), abs=1e-5)
    assert parts.column("val/loss") == pytest.approx(whole.column("val/loss"), abs=1e-5)
