"""Fully sharded data parallel (FSDP2): weights, gradients and optimizer state are sharded (Zhao et al. 2023).

Checkpoints have the format of a single process: tensors are gathered when they are saved, and sharded when loaded.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.model.gpt2 import Block
from gpt2_lightning.training import distributed
from gpt2_lightning.training.optimizers import OptimizerSpec
from gpt2_lightning.training.saving.host_copy import map_tensors, to_host, wait_for_copies

Tensors = dict[str, Any]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


class ShardedStrategy(ModelParallelStrategy):
    """Strategy that shards the network of a LightningModule; its state dicts contain full tensors.

    Args:
        started_by: cluster environment of the processes.
        timeout: timeout of collectives.
        compute_in: dtype of weights and activations in the forward and backward pass; gradients are reduced, and
            weights stored, in float32. None for the dtype of the weights.
        reshard_after_forward: whether a block is resharded after its forward pass, and unsharded again for its
            backward pass.
        replicas: number of replicas, each sharded over `world_size / replicas` consecutive ranks (hybrid sharding,
            Zhao et al. 2023, section 3.2.2).
    """

    def __init__(
        self,
        started_by: ClusterEnvironment,
        timeout: timedelta,
        compute_in: torch.dtype | None,
        reshard_after_forward: bool = True,
        replicas: int = 1,
    ) -> None:
        super().__init__(
            data_parallel_size=started_by.world_size(),
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
        self.cluster_environment = started_by
        self._blueprint: Any = None
        self._blocks: list[FSDPModule] = []
        self._reshard_after_forward = reshard_after_forward
        self._replicas = replicas
        self._policy = MixedPrecisionPolicy()
        if compute_in is not None:
            self._policy = MixedPrecisionPolicy(param_dtype=compute_in, reduce_dtype=torch.float32)

    def shard(self, network: nn.Module) -> None:
        """Shard a network, unless it is sharded: one unit per block, and one for all other modules.

        It must be the same on all ranks. The token embedding and the head are in one unit, since they may share their
        weight.
        """
        if isinstance(network, FSDPModule):
            return
        self._blueprint = without_weights(network)
        mesh = self._mesh()
        for block in [module for module in network.modules() if isinstance(module, Block)]:
            unit = fully_shard(
                block, mesh=mesh, mp_policy=self._policy, reshard_after_forward=self._reshard_after_forward
            )
            self._blocks.append(unit)
        # The backward pass begins with the head.
        self._rest = fully_shard(network, mesh=mesh, mp_policy=self._policy, reshard_after_forward=False)

    def _mesh(self) -> DeviceMesh:
        """Return the mesh of the ranks: (shard), or (replicate, shard) if there are replicas."""
        if self._replicas == 1:
            return self.device_mesh["data_parallel"]
        shape = (self._replicas, self.world_size // self._replicas)
        return init_device_mesh(self.root_device.type, shape, mesh_dim_names=("replicate", "shard"))

    @contextlib.contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Accumulate unsharded gradients without communication, in all micro-batches of a step but the last.

        Blocks that stay unsharded for the backward pass also stay so for the next forward pass.
        """
        self._rest.set_requires_gradient_sync(False)
        self._rest.set_reshard_after_backward(self._reshard_after_forward)
        yield
        self._rest.set_requires_gradient_sync(True)
        self._rest.set_reshard_after_backward(True)

    def on_validation_start(self) -> None:
        """Unshard the network for the whole validation, in which ranks may have different numbers of batches."""
        for part in (self._rest, *self._blocks):
            part.unshard()
        for block in self._blocks:
            block.set_reshard_after_forward(False)

    def on_validation_end(self) -> None:
        for block in self._blocks:
            block.set_reshard_after_forward(self._reshard_after_forward)
        for part in (self._rest, *self._blocks):
            part.reshard()

    def full_network(self, network: NetworkT) -> NetworkT | None:
        """Return an unsharded copy of the network on the device of rank zero; None on other ranks. A collective."""
        tensors = gather(network.state_dict(keep_vars=True))
        if not distributed.is_rank_zero():
            return None
        copied: NetworkT = copy.deepcopy(self._blueprint)
        copied.load_state_dict(tensors, assign=True)
        return copied.to(self.root_device).train(network.training)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> Tensors:
        """Return the full tensors, on the CPU, on rank zero; an empty dict on other ranks."""
        assert self.lightning_module is not None
        return gather(self.lightning_module.state_dict(keep_vars=True))

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> Tensors:
        """Return the unsharded state of the optimizer on rank zero; an empty dict on other ranks."""
        return gather(optimizer.state_dict())

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Tensors:
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        own, found = module.state_dict(keep_vars=True), checkpoint["state_dict"]
        shared_out = {name: shard_like(own[name], tensor) if name in own else tensor for name, tensor in found.items()}
        module.load_state_dict(shared_out, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, found in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: shard_like(parameters[number], value) for name, value in values.items()}
                for number, values in found["state"].items()
            }
            optimizer.load_state_dict({**found, "state": state})


def require_sharding_support(optimizer: OptimizerSpec) -> None:
    """Check that an optimizer supports sharded parameters.

    Raises:
        UserError: if the optimizer does not support sharding.
    """
    if not optimizer.supports_sharding:
        raise UserError(
            f"optimizer: {type(optimizer).__name__} needs whole parameters, and fsdp and hsdp shard them; "
            "use optimizer=adamw, or trainer=ddp"
        )


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor unsharded, if it is sharded. A collective: all ranks must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather(tensors: Tensors) -> Tensors:
    """Gather nested tensors on rank zero, as full CPU tensors; return an empty dict on other ranks.

    Tied tensors stay tied. A collective: all ranks must call it.
    """
    seen: dict[int, Tensor] = {}

    def gathered(tensor: Tensor) -> Tensor:
        if id(tensor) not in seen:
            seen[id(tensor)] = _on_first(whole(tensor.detach()))
        return seen[id(tensor)]

    found: Tensors = map_tensors(tensors, gathered)
    wait_for_copies()
    return found if distributed.is_rank_zero() else {}


def without_weights(network: NetworkT) -> NetworkT:
    """Return a copy of a network with its parameters on the meta device."""
    return copy.deepcopy(network, _empty(network))


def _empty(network: nn.Module) -> dict[int, Any]:
    """Return the `memo` argument of `deepcopy` that replaces parameters by empty ones on the meta device."""
    return {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in network.parameters()
    }


def _on_first(tensor: Tensor) -> Tensor:
    """Copy a tensor to the host on rank zero, and free it on other ranks, so that a GPU holds one at a time."""
    return to_host(tensor) if distributed.is_rank_zero() else torch.empty(0)


def shard_like(own: Tensor, found: Any) -> Any:
    """Shard a full tensor of a checkpoint like the parameter `own`, if it has as many rows; return others unchanged."""
    if isinstance(own, DTensor) and isinstance(found, Tensor) and found.dim() and len(found) == len(own):
        on_device = found.to(own.device_mesh.device_type)
        # Every rank has the full tensor, so no communication is needed.
        return distribute_tensor(on_device, own.device_mesh, own.placements, src_data_rank=None)
    return found
