"""From the settings of a server to its processes."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from dataclasses import dataclass

import torch

from gpt2_lightning.errors import UserError
from gpt2_lightning.model.size import count_parameters
from gpt2_lightning.pretrained.devices import (
    Device,
    DType,
    Quantization,
    device_of,
    dtype_of,
    placed,
    require_quantizable,
)
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.serving.operation.guard import THIS_MACHINE, Access
from gpt2_lightning.serving.operation.server import Address, guarded, serve, url_of
from gpt2_lightning.serving.operation.workers import run_workers

__all__ = ["THIS_MACHINE", "Access", "Address", "Limits", "LoadOptions", "Options", "start"]


@dataclass(frozen=True)
class Options:
    """What a server is started with; see the fields of the verb `serve`."""

    checkpoints: tuple[str, ...]
    load: LoadOptions
    device: Device
    dtype: DType
    quantize: Quantization
    address: Address
    access: Access
    limits: Limits
    workers: int
    grace: int
    log_texts: bool


def start(options: Options) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        UserError: if a model cannot be loaded, or the address cannot be used.
        KeyboardInterrupt: after Ctrl-C.
    """
    bound = options.address.bind()  # first, since loading takes time
    if options.workers == 1:
        with bound:
            _serve(0, options, bound)
        return
    if not sys.platform.startswith("linux"):
        raise UserError(f"workers: {options.workers} processes share a port on Linux alone; set workers=1")
    port = bound.getsockname()[1]
    bound.close()
    options = dataclasses.replace(options, address=Address(options.address.host, port))
    reserved = options.address.bind(shared=True)
    run_workers(_serve, (options,), options.workers, reserved, options.grace)


def _serve(worker: int, options: Options, bound: socket.socket | None = None) -> None:
    if options.workers > 1:
        bound = options.address.bind(shared=True)
        if not torch.cuda.is_available():
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.workers))
    assert bound is not None
    models = Models(_load(checkpoint, worker, options) for checkpoint in options.checkpoints)
    engine = Engine(models, options.limits)
    name = f"worker {worker + 1} of {options.workers}: " if options.workers > 1 else ""
    for served in models.by_name.values():
        _note(f"{name}{_description(served.name, served.loaded, options.limits)}")
    _note(f"{name}at {url_of(bound)} (Ctrl-C ends)")
    serve(guarded(engine, options.access, options.log_texts), engine, bound, options.grace)


def _load(checkpoint: str, worker: int, options: Options) -> LoadedModel:
    device = device_of(options.device)
    if device.type == "cuda" and options.workers > 1:
        device = torch.device("cuda", worker % torch.cuda.device_count())
    dtype = dtype_of(options.dtype)
    require_quantizable(options.quantize, device, dtype)
    loaded = load_pretrained(checkpoint, options.load)
    if loaded.score is not None and options.quantize != "none":
        raise UserError(f"quantize={options.quantize}: {loaded.location} is a classifier; leave it out")
    for note in loaded.notes:
        _note(f"{loaded.location}: {note}")
    return dataclasses.replace(loaded, model=placed(loaded.model, device, dtype, options.quantize))


def _description(name: str, loaded: LoadedModel, limits: Limits) -> str:
    """The start-up line of a model."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*loaded.model.parameters(), *loaded.model.buffers())}
    config, weight = loaded.model.config, loaded.model.wte.weight
    megabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    cache = 2 * config.n_layer * limits.rows * config.block_size * config.n_embd * weight.element_size() / 1e6
    return (
        f"{name}: {count_parameters(config):,} parameters, context {config.block_size}, on "
        f"{weight.device}, {megabytes:,.0f} MB, and up to {cache:,.0f} MB for {limits.rows} texts at once"
    )


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
