import pytest
import torch
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from gpt2_lightning.huggingface import config_to_huggingface, from_huggingface
from gpt2_lightning.inspection.attention.reading import Reading, read, rollout
from gpt2_lightning.model import GPT2, GPT2Config

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
CONFIG = GPT2Config(vocab_size=101, block_size=23, n_layer=3, n_head=5, n_embd=35)


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(TheirConfig(**config_to_huggingface(CONFIG), attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.1) if name.endswith("bias") else parameter.mul_(5)
    return model


@pytest.fixture(scope="module")
def ours(theirs: GPT2LMHeadModel) -> GPT2:
    return from_huggingface(theirs.state_dict(), CONFIG).eval()


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(101, (17,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def reading(ours: GPT2, ids: Tensor) -> Reading:
    return read(ours, ids)


@torch.no_grad()
def test_weights_are_hugging_faces(theirs: GPT2LMHeadModel, reading: Reading, ids: Tensor) -> None:
    expected = torch.cat(theirs(ids[None], output_attentions=True).attentions)
    assert expected.std(dim=-1).max() > 0.2, "the weights differ from each other"
    torch.testing.assert_close(reading.weights, expected, **TOLERANCE)


def test_rows_sum_to_one_and_nothing_attends_ahead(reading: Reading) -> None:
    torch.testing.assert_close(reading.weights.sum(dim=-1), torch.ones(3, 5, 17), **TOLERANCE)
    assert not reading.weights.triu(diagonal=1).any()


@torch.no_grad()
def test_the_lens_reads_each_layers_residual_stream(theirs: GPT2LMHeadModel, reading: Reading, ids: Tensor) -> None:
    answer = theirs(ids[None], output_hidden_states=True)
    for layer, stream in enumerate(answer.hidden_states[:-1]):
        expected = theirs.lm_head(theirs.transformer.ln_f(stream))[0].softmax(dim=-1)
        values, tokens = expected.topk(5)
        torch.testing.assert_close(reading.lens_probabilities[layer], values, **TOLERANCE)
        assert torch.equal(reading.lens_ids[layer, :, 0], tokens[:, 0])
    # Theirs are already normed after the last layer, which makes the predictions themselves.
    values, tokens = answer.logits[0].softmax(dim=-1).topk(5)
    torch.testing.assert_close(reading.lens_probabilities[-1], values, **TOLERANCE)
    assert torch.equal(reading.lens_ids[-1, :, 0], tokens[:, 0])


@torch.no_grad()
def test_what_really_comes_next_has_its_probability_rank_and_loss(
    theirs: GPT2LMHeadModel, reading: Reading, ids: Tensor
) -> None:
    answer = theirs(ids[None], labels=ids[None])
    probabilities = answer.logits[0, :-1].softmax(dim=-1)
    torch.testing.assert_close(reading.next_probabilities, probabilities[range(16), ids[1:]], **TOLERANCE)
    order = probabilities.argsort(dim=-1, descending=True).tolist()
    assert reading.next_ranks.tolist() == [row.index(token) for row, token in zip(order, ids[1:].tolist(), strict=True)]
    assert reading.loss == pytest.approx(answer.loss.item(), abs=1e-5)


def test_reading_leaves_no_hook_behind(ours: GPT2, ids: Tensor) -> None:
    read(ours, ids)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())


def test_one_token_has_no_loss(ours: GPT2) -> None:
    reading = read(ours, torch.tensor([7]))
    assert reading.weights.tolist() == [[[[1.0]]] * 5] * 3
    assert reading.loss is None
    assert len(reading.next_probabilities) == len(reading.next_ranks) == 0


def test_nothing_to_read_is_refused(ours: GPT2) -> None:
    with pytest.raises(ValueError, match="ids: "):
        read(ours, torch.zeros(0, dtype=torch.int64))


def test_a_vocabulary_smaller_than_the_predictions_shown_is_shown_whole() -> None:
    reading = read(GPT2(GPT2Config(3, 5, 1, 1, 2)).eval(), torch.tensor([0, 2]))
    assert reading.lens_ids.shape == (2, 2, 3)
    torch.testing.assert_close(reading.lens_probabilities.sum(dim=-1), torch.ones(2, 2))


def test_rollout_of_two_layers_is_the_product_worked_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [0.75, 0.25]]])  # mean: [[1, 0], [.5, .5]]
    second = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])  # mean: [[1, 0], [1, 0]]
    # Half the identity added: [[1, 0], [.25, .75]] and [[1, 0], [.5, .5]]; the second times the first.
    expected = torch.tensor([[1.0, 0.0], [0.5 + 0.5 * 0.25, 0.5 * 0.75]])
    torch.testing.assert_close(rollout(torch.stack([first, second])), expected)


def test_rollout_rows_sum_to_one(reading: Reading) -> None:
    torch.testing.assert_close(rollout(reading.weights).sum(dim=-1), torch.ones(17))
