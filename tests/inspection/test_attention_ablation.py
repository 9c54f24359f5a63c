import pytest
import torch
from torch.nn import functional as F

from gpt2_lightning.inspection.attention import ablation
from gpt2_lightning.inspection.attention.ablation import ablate_heads
from gpt2_lightning.inspection.attention.scores import repeated_sequence
from gpt2_lightning.model import GPT2, GPT2Config
from tests.inspection.planted import CONTEXT, VOCABULARY, planted_network


def lively(n_layer: int = 3) -> GPT2:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=29, block_size=19, n_layer=n_layer, n_head=5, n_embd=35)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


IDS = torch.tensor([5, 28, 0, 5, 17, 3, 3, 11, 5, 28, 1])


@torch.no_grad()
def without_weights(model: GPT2, layer: int, head: int) -> GPT2:
    """The same network with the columns of the output projection that read a head set to 0."""
    edited = GPT2(model.config).eval()
    edited.load_state_dict(model.state_dict())
    edited.h[layer].attn.c_proj.weight[:, head * 7 : (head + 1) * 7] = 0
    return edited


@torch.no_grad()
def test_a_head_switched_off_is_one_whose_projection_is_zero() -> None:
    model = lively()
    base = model(IDS[None])[0]
    effects = ablate_heads(model, IDS)
    assert sorted((effect.layer, effect.head) for effect in effects) == [(i, j) for i in range(3) for j in range(5)]
    for effect in effects:
        logits = without_weights(model, effect.layer, effect.head)(IDS[None])[0]
        change = F.cross_entropy(logits[:-1], IDS[1:]) - F.cross_entropy(base[:-1], IDS[1:])
        assert effect.loss_change == pytest.approx(change.item(), abs=1e-5)
        assert abs(effect.loss_change) > 1e-4, "every head does something"
        divergence = F.kl_div(logits.log_softmax(-1), base.log_softmax(-1), log_target=True, reduction="batchmean")
        assert effect.divergence == pytest.approx(divergence.item(), abs=1e-6)
        before, after = base[-1].softmax(-1), logits[-1].softmax(-1)
        assert effect.likeliest == pytest.approx(after[before.topk(5).indices].tolist(), abs=1e-6)
        most = int((before - after).abs().argmax())
        assert effect.most_changed == most
        assert (effect.before, effect.after) == pytest.approx((before[most].item(), after[most].item()), abs=1e-6)


def test_heads_are_ranked_by_what_their_loss_costs() -> None:
    changes = [effect.loss_change for effect in ablate_heads(lively(), IDS)]
    assert changes == sorted(changes, reverse=True)


def test_few_heads_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively()
    together = ablate_heads(model, IDS)
    monkeypatch.setattr(ablation, "_MOST_LOGITS", 2 * 29 * len(IDS))
    apart = ablate_heads(model, IDS)
    assert [(e.layer, e.head) for e in apart] == [(e.layer, e.head) for e in together]
    assert [e.divergence for e in apart] == pytest.approx([e.divergence for e in together], abs=1e-6)


def test_one_token_is_ranked_by_divergence() -> None:
    effects = ablate_heads(lively(1), IDS[:1])
    assert {effect.loss_change for effect in effects} == {None}
    divergences = [effect.divergence for effect in effects]
    assert divergences == sorted(divergences, reverse=True)


def test_a_head_that_writes_nothing_is_not_missed() -> None:
    effects = {e.layer: e for e in ablate_heads(planted_network(), repeated_sequence(VOCABULARY, CONTEXT)[0])}
    assert effects[1].divergence == pytest.approx(0, abs=1e-9)
    assert effects[0].divergence > 1e-6


def test_nothing_stays_switched_off() -> None:
    model = lively()
    before = model(IDS[None])
    ablate_heads(model, IDS)
    assert torch.equal(model(IDS[None]), before)
