"""Which tokens matter: against classifiers whose answer is known by hand, and against one text at a time."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from gpt2_lightning.inspection.attribution.deletion import SHARES, attribute
from gpt2_lightning.inspection.attribution.methods import METHODS, Output, attributions, rollout_attribution
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier, Pooling
from tests.huggingface.networks import lively

IDS = torch.tensor([3, 7, 1, 7, 20, 0, 11])
CONFIG = GPT2Config(vocab_size=11, block_size=13, n_layer=2, n_head=1, n_embd=5)
DECIDING, PLAIN = 4, 2


def some_classifier(labels: int = 3, reads: Pooling = "last") -> Classifier:
    classifier = Classifier(lively(), labels, reads).eval()
    classifier.score.weight = nn.Parameter(torch.randn(labels, 35, generator=torch.Generator().manual_seed(7)))
    return classifier


@torch.no_grad()
def linear_classifier(labels: int, reads: Pooling) -> Classifier:
    """Blocks that add nothing and no final norm: the scores are linear in the embeddings."""
    torch.manual_seed(3)
    model = GPT2(CONFIG)
    for block in model.h:
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_proj):
            layer.weight.zero_()
    model.ln_f = nn.Identity()
    model.wte.weight.normal_()
    model.wpe.weight.normal_()
    classifier = Classifier(model, labels, reads).eval()
    classifier.score.weight.normal_()
    return classifier


@torch.no_grad()
def decided_by_one_token() -> Classifier:
    """The score is far above 0 if `DECIDING` is in the text, and far below if not.

    Positions are long vectors of two channels, so that the final norm divides by nearly the same everywhere.
    """
    classifier = linear_classifier(1, "mean")
    model = classifier.transformer
    model.ln_f = GPT2(CONFIG).ln_f
    model.wte.weight.zero_()
    model.wte.weight[:, 2] = -1
    model.wte.weight[DECIDING, 2] = 9
    model.wpe.weight.zero_()
    model.wpe.weight[:, :2] = torch.tensor([100.0, -100.0])
    classifier.score.weight.zero_()
    classifier.score.weight[0, 2] = 5000
    return classifier


def without(classifier: Classifier, kind: str, ids: Tensor, gone: list[int]) -> Tensor:
    """The evidence for all labels in a shorter text, read by itself."""
    rest = torch.tensor([[token for place, token in enumerate(ids.tolist()) if place not in gone]])
    with torch.no_grad():
        return KINDS[kind].evidence(classifier(rest, torch.ones_like(rest, dtype=torch.bool)))[0]


def test_evidence_is_the_log_odds_of_the_probability() -> None:
    logits = torch.tensor([[0.5, -1.25, 3.0], [7.0, 7.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(KINDS["single"].evidence(logits), logits.softmax(dim=1).logit(), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        KINDS["single"].evidence(logits + 5), KINDS["single"].evidence(logits), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(KINDS["multi"].evidence(logits), logits.sigmoid().logit(), rtol=0, atol=1e-5)
    assert KINDS["regression"].evidence(logits) is logits
    binary = KINDS["single"].evidence(logits[:, :2])
    torch.testing.assert_close(binary, torch.tensor([[1.75, -1.75], [0.0, 0.0]]).double())


@pytest.mark.parametrize("reads", get_args(Pooling))
def test_gradient_times_input_of_a_linear_classifier_is_what_each_token_adds(reads: Pooling) -> None:
    classifier = linear_classifier(2, reads)
    ids = torch.tensor([3, 7, 1, 7, 10])
    shares = torch.tensor({"last": [0.0, 0, 0, 0, 1], "first": [1.0, 0, 0, 0, 0], "mean": [0.2] * 5}[reads])
    weight = classifier.score.weight[1] - classifier.score.weight[0]
    added = shares * (classifier.transformer.wte.weight[ids] @ weight)
    bias = shares @ (classifier.transformer.wpe.weight[:5] @ weight)
    found = attributions(Output(classifier, KINDS["single"], 1, 8), ids)["gradient_x_input"]
    torch.testing.assert_close(found, added.detach(), rtol=0, atol=1e-5)
    whole = without(classifier, "single", ids, [])[1]
    torch.testing.assert_close(found.sum(), whole - bias.detach(), rtol=0, atol=1e-5)
    assert whole.abs() > 0.05


def test_gradient_times_input_is_the_derivative_of_scaling_an_embedding() -> None:
    classifier = some_classifier().double()
    ids = torch.tensor([3, 7, 1, 20])  # no token twice: a token's embedding is in one place
    output = Output(classifier, KINDS["single"], 2, 8)
    found = attributions(output, ids)["gradient_x_input"]
    weight, step = classifier.transformer.wte.weight, 1e-6
    for place, token in enumerate(ids.tolist()):
        row = weight[token].detach().clone()
        values = []
        for factor in (1 + step, 1 - step):
            with torch.no_grad():
                weight[token] = factor * row
                logits = classifier(ids.unsqueeze(0), torch.ones(1, 4, dtype=torch.bool))
                values.append(KINDS["single"].evidence(logits)[0, 2])
                weight[token] = row
        assert float(found[place]) == pytest.approx(float(values[0] - values[1]) / (2 * step), abs=1e-4)
    assert found.abs().max() > 0.1


def test_explaining_leaves_the_classifier_as_it_was() -> None:
    classifier = some_classifier()
    before = without(classifier, "single", IDS, [])
    attributions(Output(classifier, KINDS["single"], 0, 8), IDS)
    assert not classifier.transformer.wte._forward_hooks
    assert classifier.transformer.wte.weight.grad is None
    torch.testing.assert_close(without(classifier, "single", IDS, []), before, rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize(
    ("kind", "labels", "reads"), [("single", 3, "last"), ("multi", 2, "mean"), ("regression", 1, "first")]
)
def test_occlusion_is_the_text_without_each_token_one_at_a_time(
    kind: str, labels: int, reads: Pooling, batch_size: int
) -> None:
    classifier = some_classifier(labels, reads)
    found = attributions(Output(classifier, KINDS[kind], labels - 1, batch_size), IDS)["occlusion"]
    whole = without(classifier, kind, IDS, [])
    expected = torch.stack([whole - without(classifier, kind, IDS, [place]) for place in range(7)])[:, -1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.abs().max() > 0.1
    assert found[1] != found[3] or reads == "first", "the same token in two places is two tokens"


def test_rollout_of_two_layers_that_look_at_all_tokens_alike_is_that_worked_by_hand() -> None:
    classifier = linear_classifier(2, "last")  # queries and keys are 0: every token looks at all before it alike
    hand = torch.tensor([[1, 0, 0], [7 / 16, 9 / 16, 0], [23 / 72, 17 / 72, 32 / 72]])
    ids = torch.tensor([3, 7, 1])
    for reads, expected in (("last", hand[2]), ("first", hand[0]), ("mean", hand.mean(dim=0))):
        classifier.pooling = reads
        torch.testing.assert_close(rollout_attribution(classifier, ids), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_token_that_decides_alone_comes_first_and_its_deletion_score_is_near_one(place: int) -> None:
    classifier = decided_by_one_token()
    ids = torch.full((9,), PLAIN)
    ids[place] = DECIDING
    found = attribute(Output(classifier, KINDS["multi"], 0, 32), ids)
    assert found.answer > 0.999
    for method in ("gradient_x_input", "occlusion"):
        values = found.attributions[method]
        assert int(values.argmax()) == place
        assert values[place] > 0 > values[(place + 1) % 9]
        assert found.deletions[method].score > 0.999
        assert found.beaten(method) >= 15
    assert max(deletion.score for deletion in found.random_deletions) <= 1
    mean = sum(deletion.score for deletion in found.random_deletions) / len(found.random_deletions)
    assert 0.05 < mean < 0.5
    assert found.deletions["rollout"].score < 0.9 or place == 0, (
        "rollout sees tokens that look alike, but for their places"
    )


def test_deletion_removes_the_strongest_tokens_of_the_text() -> None:
    classifier = some_classifier()
    ids = torch.cat([IDS, torch.tensor([5, 9, 2])])
    found = attribute(Output(classifier, KINDS["single"], 1, 4), ids)
    whole = without(classifier, "single", ids, [])[1]
    assert found.evidence == pytest.approx(float(whole), abs=1e-5)
    for method in METHODS:
        ranked = found.attributions[method].argsort(descending=True).tolist()
        less = torch.stack([without(classifier, "single", ids, ranked[:count])[1] for count in (1, 1, 1, 2, 5)])
        deletion = found.deletions[method]
        torch.testing.assert_close(deletion.evidence_drops, whole - less, rtol=0, atol=1e-5)
        torch.testing.assert_close(deletion.answer_drops, whole.sigmoid() - less.sigmoid(), rtol=0, atol=1e-5)
        assert deletion.score == pytest.approx(float((whole.sigmoid() - less.sigmoid()).mean()), abs=1e-5)
    assert len(SHARES) == 5


def test_random_orders_are_the_same_every_time_and_differ() -> None:
    classifier = some_classifier()
    first, second = (attribute(Output(classifier, KINDS["single"], 1, size), IDS) for size in (32, 5))
    for one, other in zip(first.random_deletions, second.random_deletions, strict=True):
        torch.testing.assert_close(one.evidence_drops, other.evidence_drops, rtol=0, atol=1e-5)
    assert len({round(deletion.evidence_score, 4) for deletion in first.random_deletions}) > 10


def test_two_tokens_are_enough_and_one_is_not() -> None:
    output = Output(some_classifier(), KINDS["single"], 1, 4)
    assert attribute(output, IDS[:2]).attributions["occlusion"].shape == (2,)
    with pytest.raises(ValueError, match="1 tokens are too few"):
        attribute(output, IDS[:1])
