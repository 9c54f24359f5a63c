"""NorMuon, which is Muon with one more state, on four ranks under DDP, FSDP and HSDP, compared with one process."""

from __future__ import annotations

from datetime import timedelta
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.training import distributed
from gpt2_lightning.training.optimizers import NorMuon, orthogonalization
from gpt2_lightning.training.optimizers.matrix_layout import MatrixLayout, interleave
from gpt2_lightning.training.strategies.fsdp import shard_like, whole
from tests.training.short_run import same_tensors
from tests.training.two_processes import on_processes

MESHES = {"ddp": (), "fsdp": (4,), "hsdp": (2, 2), "one shard": (4, 1)}
STEPS, HALF = 4, 2
State = dict[str, Tensor]


def network() -> GPT2:
    """A model of which neither the layers nor the rows divide among four ranks."""
    torch.manual_seed(0)
    return GPT2(GPT2Config(vocab_size=13, block_size=5, n_layer=5, n_head=3, n_embd=21))


def train(mesh: tuple[int, ...], resume_after: int | None = None) -> State:
    """Return the whole weights after some steps with given gradients, and the whole state of Muon."""
    model, spec = network(), NorMuon(lr=1e-3, muon_lr=0.05)
    if mesh:
        names = ("replicas", "shards")[-len(mesh) :]
        on = init_device_mesh("cpu", mesh, mesh_dim_names=names)
        for block in model.h:
            fully_shard(block, mesh=on)
        fully_shard(model, mesh=on)
    optimizer = spec.build(model)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        if step == resume_after:
            saved = optimizer.state_dict()
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for number, entries in saved["state"].items():  # as a checkpoint, which has whole tensors
                for name, value in entries.items():
                    entries[name] = shard_like(parameters[number], whole(value))
                    assert type(entries[name]) is type(value), name
            optimizer = spec.build(model)
            optimizer.load_state_dict(saved)
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            if isinstance(parameter, DTensor):
                place = parameter.device_mesh, parameter.placements
                parameter.grad = distribute_tensor(gradient, *place, src_data_rank=None)
            else:
                parameter.grad = gradient
        optimizer.step()
    of_muon = {
        f"{key} of {name}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        for key in ("momentum_buffer", "row_exp_avg_sq")
        if key in optimizer.state[parameter]
    }
    state = {name: parameter.detach() for name, parameter in model.named_parameters()} | of_muon
    return {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in state.items()}


def in_float32() -> mock._patch[torch.dtype]:
    """Iterate in float32, so that an error cannot hide behind the rounding of bfloat16."""
    return mock.patch.object(orthogonalization, "DTYPE", torch.float32)


def two_claim_the_first(layout: MatrixLayout, count: int) -> slice:
    """A wrong `MatrixLayout.own`: every replica computes the first matrices."""
    assert layout.replicas is not None
    return slice(0, -(-count // layout.replicas.size()))


def work() -> dict[str, State]:
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    found = {}
    with in_float32():
        for name, mesh in MESHES.items():
            found[name] = train(mesh)
        with mock.patch.object(MatrixLayout, "own", two_claim_the_first):
            found["wrong owner"] = train(())
    for name, mesh in MESHES.items():
        found[f"{name}, bf16"] = train(mesh)
        found[f"{name}, resumed"] = train(mesh, resume_after=HALF)
    distributed.leave_together()
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, State]]:
    """What each of four ranks computed."""
    found = on_processes(4, work, tmp_path_factory.mktemp("ranks"))
    return [found[rank] for rank in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", MESHES)
def test_four_ranks_step_as_one_process(ranks: list[dict[str, State]], strategy: str) -> None:
    with in_float32():
        expected = train(())
    for found in ranks:
        torch.testing.assert_close(found[strategy], expected, atol=2e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", MESHES)
def test_all_ranks_have_the_same_bits(ranks: list[dict[str, State]], strategy: str) -> None:
    for found in ranks[1:]:
        assert same_tensors(found[f"{strategy}, bf16"], ranks[0][f"{strategy}, bf16"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", MESHES)
def test_a_resumed_optimizer_has_the_same_bits(ranks: list[dict[str, State]], strategy: str) -> None:
    assert same_tensors(ranks[0][f"{strategy}, resumed"], ranks[0][f"{strategy}, bf16"])


@pytest.mark.slow
def test_a_wrong_owner_is_noticed(ranks: list[dict[str, State]]) -> None:
    with in_float32():
        expected = train(())
    name = "h.4.mlp.c_fc.weight"
    assert (ranks[0]["wrong owner"][name] - expected[name]).abs().max() > 0.01


def test_each_generator_computes_before_earlier_ones_finish() -> None:
    order: list[tuple[str, int]] = []

    def stages(name: str, count: int) -> object:
        for stage in range(count):
            order.append((name, stage))
            yield
        order.append((name, count))

    interleave(stages(name, count) for name, count in (("a", 2), ("b", 2), ("c", 0)))  # type: ignore[misc]  # generators
    assert order == [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2), ("b", 2)]
