from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt2_lightning.data.datamodule import TokenDataModule
from gpt2_lightning.data.order import SampleOrder
from gpt2_lightning.data.tokens import TokenFiles
from gpt2_lightning.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    np.save(tmp_path / "train.npy", np.arange(307, dtype=np.uint16))
    np.save(tmp_path / "val.npy", np.arange(59, dtype=np.uint16))
    return TokenFiles(tmp_path / "train.npy", tmp_path / "val.npy", bytes_per_token={"train": 1.0, "val": 1.0})


def first_batches(data: TokenDataModule, count: int) -> Tensor:
    batches = iter(data.train_dataloader())
    return torch.cat([next(batches) for _ in range(count)])


def test_batches_follow_the_order_of_samples(files: TokenFiles) -> None:
    data = TokenDataModule(files, block_size=7, batch_size=6, micro_batch_size=2, seed=5)
    starts = SampleOrder(307, 7, seed=5).starts(np.arange(10))
    assert first_batches(data, 5)[:, 0].tolist() == starts.tolist(), "an id is its own place in this corpus"


def test_the_seed_changes_the_order(files: TokenFiles) -> None:
    one, other = (TokenDataModule(files, 7, 6, 6, seed) for seed in (5, 6))
    assert not torch.equal(first_batches(one, 3), first_batches(other, 3))


@pytest.mark.parametrize("samples_seen", [6, 60, 606])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 6])
def test_a_restored_position_goes_on_with_the_next_sample(
    files: TokenFiles, samples_seen: int, micro_batch_size: int
) -> None:
    data = TokenDataModule(files, 7, 6, micro_batch_size, seed=5)
    data.load_state_dict({"samples_seen": samples_seen, "step": samples_seen // 6})
    starts = SampleOrder(307, 7, seed=5).starts(np.arange(samples_seen, samples_seen + 12))
    assert first_batches(data, 12 // micro_batch_size)[:, 0].tolist() == starts.tolist()
    assert data.samples_seen == samples_seen
    assert data.tokens_seen == samples_seen * 7
    assert data.epochs_seen == pytest.approx(samples_seen / 42), "307 tokens hold 43 blocks of 7, one of them slack"


def test_the_position_survives_a_round_trip(files: TokenFiles) -> None:
    data = TokenDataModule(files, 7, 6, 2, seed=5)
    data.load_state_dict({"samples_seen": 606, "step": 101})
    other = TokenDataModule(files, 7, 6, 2, seed=5)
    other.load_state_dict(data.state_dict())
    assert torch.equal(first_batches(other, 3), first_batches(data, 3))


def test_validation_is_the_whole_part_in_order(files: TokenFiles) -> None:
    data = TokenDataModule(files, 7, 6, 2, seed=5)
    targets = torch.cat([batch[:, 1:].flatten() for batch in data.val_dataloader()])
    assert targets.tolist() == list(range(1, 59))


def test_a_loader_leaves_the_global_generator_alone(files: TokenFiles) -> None:
    data = TokenDataModule(files, 7, 6, 2, seed=5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first_batches(data, 2)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_shortest_training_text_is_a_block_and_a_token(files: TokenFiles) -> None:
    data = TokenDataModule(files, block_size=306, batch_size=2, micro_batch_size=2, seed=0)
    assert first_batches(data, 1).shape == (2, 307)
    with pytest.raises(UserError, match="training part of the text is too short: it has 307 tokens and needs 308 "):
        TokenDataModule(files, block_size=307, batch_size=2, micro_batch_size=2, seed=0)


@pytest.mark.parametrize("length", [0, 1])
def test_a_validation_text_without_a_target_is_too_short(files: TokenFiles, length: int) -> None:
    np.save(files.val, np.arange(length, dtype=np.uint16))
    with pytest.raises(
        UserError, match=f"validation part of the text is too short: it has {length} tokens and needs 2 "
    ):
        TokenDataModule(files, block_size=7, batch_size=2, micro_batch_size=2, seed=0)
