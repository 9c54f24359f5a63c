"""Memory estimate of a training step on fake tensors, without allocation or computation."""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.documents import has_flash_attention
from gpt2_lightning.model.gpt2 import Block
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.compilation import language_model
from gpt2_lightning.training.trainer import TrainerSpec


@dataclass(frozen=True)
class Held:
    """Memory in bytes that persists between steps."""

    weights: int
    gradients: int
    optimizer: int
    average: int = 0
    """Average of the weights in float32."""

    @property
    def together(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average


class StepEstimate:
    """Trace a training step of a LightningModule on fake tensors, and count the memory of its tensors.

    CPU kernels are traced; they save the same tensors for the backward pass as GPU kernels.

    Args:
        make_module: constructor of the LightningModule, called under the meta device so that nothing is allocated.
        data: data module of the run.
        spec: trainer settings, of which the precision is used.
    """

    def __init__(
        self, make_module: Callable[[], TrainingModule[Any, Any]], data: SampleDataModule, spec: TrainerSpec
    ) -> None:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # loading weights has no effect on the meta device
            self.module = make_module()
        trainer = spec.build(max_steps=1, accumulate=1, callbacks=[], loggers=[])
        trainer.datamodule = data  # type: ignore[attr-defined]  # Lightning sets it in fit and does not declare it
        trainer.precision_plugin.convert_module(self.module)
        trainer.precision_plugin.teardown()
        self.module.trainer = trainer
        self._mixed = spec.computes_in
        network = language_model(self.module.model)
        self._has_masks = not network.config.has_torch_attention or not has_flash_attention(
            torch.device(spec.device_type), self._mixed or network.wte.weight.dtype, network.config.head_size
        )
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self._mode, _without_process_group():
            _move_to_cpu(self.module)
            self._optimizer = self.module.configure_optimizers()
            self._step(1, 1, masked=False)
            self._optimizer.step()

    @property
    def root_device(self) -> torch.device:
        """Device of this process in the run."""
        return self.module.trainer.strategy.root_device

    @property
    def held(self) -> Held:
        """Memory that persists between steps, without sharding."""
        trained = sum(weight.numel() for weight in self.module.model.parameters() if weight.requires_grad)
        return Held(
            weights=_bytes(self.module.model.parameters()),
            gradients=_bytes(parameter.grad for parameter in self.module.model.parameters()),
            optimizer=_bytes(tree_leaves(list(self._optimizer.state.values()))),
            average=torch.float32.itemsize * trained if self.module.averages_weights else 0,
        )

    @property
    def unsharded(self) -> int:
        """Bytes of weights and gradients that are unsharded at the same time under FSDP.

        These are everything outside of the blocks, and two blocks: one that computes and one that is prefetched.
        """
        blocks = [module for module in self.module.model.modules() if isinstance(module, Block)]
        in_blocks = {parameter for block in blocks for parameter in block.parameters()}
        rest = [parameter for parameter in self.module.model.parameters() if parameter not in in_blocks]
        whole = [*rest, *(parameter for block in blocks[:2] for parameter in block.parameters())]
        narrower = 1.0 if self._mixed is None else self._mixed.itemsize / torch.float32.itemsize
        return round(narrower * (_bytes(whole) + _bytes(parameter.grad for parameter in whole)))

    def held_by_each(self, devices: int, sharded: bool) -> int:
        """Return the bytes of `held` on each of several devices; under FSDP its share, and `unsharded`."""
        together = self.held.together
        return math.ceil(together / devices) + self.unsharded if sharded and devices > 1 else together

    def activations(self, rows: int, width: int, masked: bool = False) -> int:
        """Return the peak memory of a forward and backward pass in bytes, beside `held`.

        Args:
            rows: samples per micro-batch, B.
            width: tokens per sample, T.
            masked: whether attention is limited to documents, for which some devices need a mask.
        """
        with self._mode, _Peak() as peak:
            self._step(rows, width, masked)
        return peak.most

    def _step(self, rows: int, width: int, masked: bool) -> None:
        ids = torch.zeros(rows, width, dtype=torch.int64)
        with torch.autocast("cpu", self._mixed, enabled=self._mixed is not None):
            if isinstance(self.module.model, Classifier):
                # Its forward depends on the lengths of the texts, which are values of a mask and not shapes.
                features = self.module.model.transformer.features(ids)
                loss = self.module.model.score(features[:, -1]).float().sum()
            else:
                loss = self.module.training_step(Batch(ids, ids, ids if masked and self._has_masks else None), 0)
        loss.backward()
        self.module.train_losses.clear()


@contextlib.contextmanager
def _without_process_group() -> Iterator[None]:
    """Hide the process group, since an optimizer that communicates with other ranks would send fake tensors."""
    world = dist.group.WORLD
    dist.group.WORLD = None
    try:
        yield
    finally:
        dist.group.WORLD = world


class _Peak(TorchDispatchMode):
    """Record the peak memory, in bytes, of tensors created inside the context."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for storage in _storages((args, kwargs)):
            self._note(storage, 0)  # an unknown storage was created outside of the context
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._note(storage, storage.nbytes())
        self.most = max(self.most, self._now)
        return result

    def _note(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self._now += size
            weakref.finalize(storage, self._let_go, key, size).atexit = False

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def _storages(values: Any) -> Iterable[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _move_to_cpu(task: nn.Module) -> None:
    """Replace every parameter and buffer by an empty CPU tensor, in place; tied weights stay tied."""
    found: dict[int, Any] = {}

    def counterpart(tensor: Tensor) -> Any:
        if id(tensor) not in found:
            empty = torch.empty_like(tensor, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            found[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return found[id(tensor)]

    for module in task.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: counterpart(each) for name, each in tensors.items() if each is not None})


def _bytes(tensors: Iterable[Any]) -> int:
    """Return the total size of tensors in bytes."""
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors if isinstance(tensor, Tensor))
