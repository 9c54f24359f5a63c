from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt2_lightning.data.corpus import Documents
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.sampling.permutation import SampleOrder
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.loss import IGNORED
from tests.data.token_sequences import sequence_of


def tokens_of(folder: Path, train: int = 307, val: int = 59, bytes_per_token: float = 1.0) -> Tokens:
    """Corpora in which an id is its own place."""
    ratios = {"train": bytes_per_token, "val": 2 * bytes_per_token}
    return Tokens(sequence_of(folder, np.arange(train), [100]), sequence_of(folder, np.arange(val)), ratios)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return tokens_of(tmp_path)


def first_inputs(data: TokenDataModule, count: int) -> Tensor:
    batches = iter(data.train_dataloader())
    return torch.cat([next(batches).inputs for _ in range(count)])


def validated(data: TokenDataModule) -> list[int]:
    return [t for batch in data.val_dataloader() for t in batch.targets.flatten().tolist() if t != IGNORED]


def test_batches_follow_the_order_of_samples(tokens: Tokens) -> None:
    data = TokenDataModule([tokens], block_size=7, batch_size=6, micro_batch_size=2, seed=5)
    starts = SampleOrder(307, 7, seed=5).starts(np.arange(10))
    assert first_inputs(data, 5)[:, 0].tolist() == starts.tolist(), "an id is its own place in this corpus"


def test_the_seed_changes_the_order(tokens: Tokens) -> None:
    one, other = (TokenDataModule([tokens], 7, 6, 6, seed) for seed in (5, 6))
    assert not torch.equal(first_inputs(one, 3), first_inputs(other, 3))


@pytest.mark.parametrize("samples_seen", [6, 60, 606])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 6])
def test_a_restored_position_goes_on_with_the_next_sample(
    tokens: Tokens, samples_seen: int, micro_batch_size: int
) -> None:
    data = TokenDataModule([tokens], 7, 6, micro_batch_size, seed=5)
    data.load_state_dict({"samples_seen": samples_seen, "step": samples_seen // 6})
    starts = SampleOrder(307, 7, seed=5).starts(np.arange(samples_seen, samples_seen + 12))
    assert first_inputs(data, 12 // micro_batch_size)[:, 0].tolist() == starts.tolist()
    assert data.samples_seen == samples_seen
    assert data.tokens_seen == samples_seen * 7
    assert data.epochs_seen == pytest.approx(samples_seen / 42), "307 tokens hold 43 blocks of 7, one of them slack"


def test_the_position_survives_a_round_trip(tokens: Tokens) -> None:
    data = TokenDataModule([tokens], 7, 6, 2, seed=5)
    data.load_state_dict({"samples_seen": 606, "step": 101})
    other = TokenDataModule([tokens], 7, 6, 2, seed=5)
    other.load_state_dict(data.state_dict())
    assert torch.equal(first_inputs(other, 3), first_inputs(data, 3))


def test_validation_is_the_whole_part_in_order(tokens: Tokens) -> None:
    assert validated(TokenDataModule([tokens], 7, 6, 2, seed=5)) == list(range(1, 59))


def test_a_mix_draws_by_weight_and_validates_on_all(tmp_path: Path) -> None:
    """The ids of the second corpus begin at 1,000."""
    first = tokens_of(tmp_path)
    other = Tokens(
        sequence_of(tmp_path, np.arange(1000, 1097)),
        sequence_of(tmp_path, np.arange(1000, 1031)),
        first.bytes_per_token,
    )
    data = TokenDataModule([first, other], 7, 4096, 4096, seed=5, weights=[3, 1])
    assert int((first_inputs(data, 1)[:, 0] >= 1000).sum()) == 1024
    equal = TokenDataModule([first, other], 7, 4096, 4096, seed=5)
    assert int((first_inputs(equal, 1)[:, 0] >= 1000).sum()) == 2048
    assert validated(data) == [*range(1, 59), *range(1001, 1031)]
    assert (data.train_tokens, data.val_tokens) == (307 + 97, 59 + 31)


def test_bytes_per_token_are_those_of_all_corpora_together(tmp_path: Path) -> None:
    corpora = [tokens_of(tmp_path, 300, 50, 1.0), tokens_of(tmp_path, 100, 150, 3.0)]
    data = TokenDataModule(corpora, 7, 6, 2, seed=5)
    assert data.bytes_per_token("train") == pytest.approx((300 * 1 + 100 * 3) / 400)
    assert data.bytes_per_token("val") == pytest.approx((50 * 2 + 150 * 6) / 200)


@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_documents_are_kept_apart(tokens: Tokens, documents: Documents) -> None:
    """Of the ids, 50 closes documents: there is one in each part."""
    data = TokenDataModule([tokens], 7, 43, 43, seed=5, documents=documents, end_of_text=50)
    assert validated(data) == list(range(1, 59))
    for batch in (next(iter(data.train_dataloader())), *data.val_dataloader()):
        assert (batch.inputs == 50).any()
        if documents == "masked":
            assert batch.documents is not None
            assert torch.equal(batch.documents.diff(dim=1), (batch.inputs[:, 1:] == 50).long())
        else:
            assert batch.documents is None
            assert not ((batch.inputs[:, 1:] == 50) & (batch.targets[:, 1:] != IGNORED)).any()


@pytest.mark.parametrize("documents", ["masked", "separate"])
def test_documents_without_an_end_cannot_be_told_apart(tokens: Tokens, documents: Documents) -> None:
    with pytest.raises(UserError, match=f"documents={documents}: this tokenizer has no end-of-text token"):
        TokenDataModule([tokens], 7, 6, 6, seed=5, documents=documents)


def test_a_loader_leaves_the_global_generator_alone(tokens: Tokens) -> None:
    data = TokenDataModule([tokens], 7, 6, 2, seed=5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first_inputs(data, 2)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_shortest_training_text_is_a_block_and_a_token(tokens: Tokens) -> None:
    data = TokenDataModule([tokens], block_size=306, batch_size=2, micro_batch_size=2, seed=0)
    assert first_inputs(data, 1).shape == (2, 306)
    with pytest.raises(UserError, match=r"training part .* 307 tokens .* 308 "):
        TokenDataModule([tokens], block_size=307, batch_size=2, micro_batch_size=2, seed=0)


@pytest.mark.parametrize("length", [0, 1])
def test_a_validation_text_without_a_target_is_too_short(tmp_path: Path, length: int) -> None:
    with pytest.raises(UserError, match=f"validation part .* {length} tokens .* 2 "):
        TokenDataModule([tokens_of(tmp_path, val=length)], block_size=7, batch_size=2, micro_batch_size=2, seed=0)


def test_every_corpus_of_a_mix_has_to_be_long_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it has 7 tokens and needs 8 "):
        TokenDataModule([tokens_of(tmp_path), tokens_of(tmp_path, train=7)], 7, 2, 2, seed=0)
