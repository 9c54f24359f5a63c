"""The classifier's answers, against Hugging Face's, whatever the padding; and what trains of it."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config as TheirConfig
from transformers import GPT2ForSequenceClassification

from gpt2_lightning.huggingface import config_to_huggingface, to_huggingface
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.classifier import Classifier, Pooling
from gpt2_lightning.model.lora.adapters import add_lora
from gpt2_lightning.model.lora.layers import LoRASpec

CONFIG = GPT2Config(vocab_size=23, block_size=13, n_layer=2, n_head=5, n_embd=35)
LENGTHS = (7, 1, 11)
PAD = 22
every_reading = pytest.mark.parametrize("reads", get_args(Pooling))


def lively(reads: Pooling = "last", labels: int = 3, config: GPT2Config = CONFIG) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(GPT2(config), labels, reads).eval()
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.mul_(5)
    return classifier


def texts() -> list[Tensor]:
    """Three texts of different lengths, none of which has the pad token."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(PAD, (length,), generator=generator) for length in LENGTHS]


def padded(left: int, right: int, pad: int = PAD) -> tuple[Tensor, Tensor]:
    """The texts in one batch with so much more padding on either side than they need, and the mask."""
    ids = torch.full((len(LENGTHS), left + max(LENGTHS) + right), pad)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts()):
        start = left + (max(LENGTHS) - len(text) if left else 0)
        ids[row, start : start + len(text)] = text
        mask[row, start : start + len(text)] = True
    return ids, mask


@every_reading
def test_answers_are_those_of_each_text_alone(reads: Pooling) -> None:
    classifier = lively(reads)
    together = classifier(*padded(0, 0))
    assert together.shape == (3, 3)
    for row, text in enumerate(texts()):
        alone = classifier(text.unsqueeze(0), torch.ones(1, len(text), dtype=torch.bool))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


@every_reading
@pytest.mark.parametrize("pad", [PAD, 0])
@pytest.mark.parametrize(("left", "right"), [(0, 1), (1, 0), (0, 100), (100, 0), (3, 5)])
def test_padding_of_any_amount_side_and_id_changes_no_bit(reads: Pooling, pad: int, left: int, right: int) -> None:
    classifier = lively(reads)
    assert torch.equal(classifier(*padded(left, right, pad)), classifier(*padded(0, 0)))


@pytest.mark.parametrize(("reads", "place"), [("last", -1), ("first", 0)])
def test_one_token_is_read(reads: Pooling, place: int) -> None:
    classifier = lively(reads)
    for row, text in enumerate(texts()):
        features = classifier.transformer.features(text.unsqueeze(0))[0, place]
        expected = classifier.score.weight @ features
        torch.testing.assert_close(classifier(*padded(0, 4))[row], expected, rtol=0, atol=1e-5)


def test_the_mean_is_over_the_tokens_of_the_text() -> None:
    classifier = lively("mean")
    for row, text in enumerate(texts()):
        expected = classifier.score(classifier.transformer.features(text.unsqueeze(0))[0].mean(dim=0))
        torch.testing.assert_close(classifier(*padded(0, 4))[row], expected, rtol=0, atol=1e-5)


def their_twin(classifier: Classifier) -> GPT2ForSequenceClassification:
    fields = {**config_to_huggingface(CONFIG), "num_labels": 3, "pad_token_id": PAD}
    theirs = GPT2ForSequenceClassification(TheirConfig(**fields, bos_token_id=1, eos_token_id=1))
    weights = {**to_huggingface(classifier.transformer), "score.weight": classifier.score.weight}
    theirs.load_state_dict(weights)
    return theirs.eval()


@pytest.mark.parametrize("right", [0, 2])
def test_answers_are_hugging_faces(right: int) -> None:
    classifier = lively()
    ids, mask = padded(0, right)
    with torch.no_grad():
        expected = their_twin(classifier)(ids, attention_mask=mask.long()).logits
        torch.testing.assert_close(classifier(ids, mask), expected, rtol=0, atol=1e-5)


def test_loss_and_gradients_are_hugging_faces() -> None:
    classifier, (ids, mask), labels = lively(), padded(0, 0), torch.tensor([2, 0, 1])
    theirs = their_twin(classifier)
    nn.functional.cross_entropy(classifier(ids, mask), labels).backward()
    theirs(ids, attention_mask=mask.long(), labels=labels).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in classifier.named_parameters():
        there = expected[name]
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            there = there.t()
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, there, rtol=1e-4, atol=1e-5, msg=name)


def test_names_are_hugging_faces() -> None:
    classifier = lively()
    ours = set(classifier.state_dict()) - {"transformer.lm_head.weight"}
    assert ours == set(their_twin(classifier).state_dict())


def test_a_head_starts_small_and_in_the_dtype_of_the_model() -> None:
    classifier = Classifier(GPT2(dataclasses.replace(CONFIG, n_embd=350)).to(torch.bfloat16), labels=7)
    assert classifier.score.weight.dtype == torch.bfloat16
    assert classifier.score.weight.float().std().item() == pytest.approx(0.02, rel=0.1)
    assert classifier(*padded(0, 0)).dtype == torch.bfloat16


@pytest.mark.parametrize("tied_head", [True, False])
def test_all_that_trains_gets_a_gradient(tied_head: bool) -> None:
    classifier = lively(config=dataclasses.replace(CONFIG, tied_head=tied_head))
    classifier(*padded(0, 0)).sum().backward()
    for name, parameter in classifier.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.requires_grad == (name != "transformer.lm_head.weight"), name


def test_with_lora_the_adapter_and_the_head_train() -> None:
    classifier = lively()
    add_lora(classifier.transformer, LoRASpec(rank=2))
    classifier(*padded(0, 0)).sum().backward()
    trained = {name for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    assert "score.weight" in trained
    assert all(".adapters." in name for name in trained - {"score.weight"})


def test_a_text_without_tokens_is_told() -> None:
    ids, mask = padded(0, 0)
    mask[1] = False
    with pytest.raises(ValueError, match="row 1 has no token to read"):
        lively()(ids, mask)


def test_a_text_longer_than_the_context_is_told() -> None:
    ids = torch.zeros(1, 14, dtype=torch.int64)
    with pytest.raises(ValueError, match="14 tokens do not fit"):
        lively()(ids, ids == 0)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"labels": 0}, "labels: 0 is out of range"),
        ({"labels": 2, "pooling": "max"}, "pooling: 'max' is not one of last"),
    ],
)
def test_a_head_that_cannot_be_is_told(arguments: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Classifier(GPT2(CONFIG), **arguments)
