"""The verb `serve`: a page and an OpenAI-compatible API for trained models."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from gpt2_lightning.errors import UserError
from gpt2_lightning.pretrained.devices import Device, DType, Quantization
from gpt2_lightning.settings import NonEmpty, NonNegativeInt, PathText, PositiveFloat, PositiveInt, Settings, relation

_KEY_VARIABLE = "GPT2_LIGHTNING_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/serve.yaml`.

    Raises:
        ValueError: if settings are out of range or do not fit each other; the message lists all faults.
    """

    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: PathText = "latest"
    """`latest`, a run's folder, a checkpoint file, a Hugging Face folder, or `hf:NAME@REVISION`."""
    also: list[NonEmpty] = field(default_factory=list)
    """Further models, named as `checkpoint`; the page compares two of them side by side."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    device: Device = "auto"
    """Device; `auto` for the fastest available."""
    dtype: DType = "auto"
    """Data type to compute in; `auto` for that of the checkpoint."""
    quantize: Quantization = "none"
    """`int8` for int8 weights on a CPU: a third of the memory, and faster; not for classifiers."""
    host: NonEmpty = "127.0.0.1"
    """Address to listen at; any but this machine's own needs `api_key` or `open=true`."""
    port: Annotated[int, Interval(ge=0, le=65535)] = 8000
    """Port to listen at; 0 for a free one."""
    api_key: NonEmpty | None = None
    """Key that requests must have; null for that of the environment variable GPT2_LIGHTNING_API_KEY, if it is set."""
    open: bool = False
    """Whether other machines may use the server without a key."""
    hosts: list[NonEmpty] = field(default_factory=list)
    """Names by which clients address the server besides `host`, such as that of a proxy before it."""
    batch_size: PositiveInt = 8
    """Texts of a model that are generated at once; others wait."""
    queue: PositiveInt = 64
    """Requests that wait for a model, at most; beyond them the answer is 429."""
    max_tokens: PositiveInt = 4096
    """Largest `max_tokens` of a request."""
    timeout: PositiveFloat = 600.0
    """Seconds of a request, with its wait, at most."""
    grace: NonNegativeInt = 30
    """Seconds that answers have to end after SIGTERM."""
    workers: PositiveInt = 1
    """Processes behind the port, each with all models; on several GPUs, each has one (Linux)."""
    log_texts: bool = False
    """Whether the access log has the bodies of requests."""

    @relation
    def _other_machines_need_a_key(self) -> Iterator[str]:
        if not (is_loopback(self.host) or self.open or self.key):
            yield (
                f"host: {self.host} can be reached from other machines; set api_key=KEY, or open=true to let everyone "
                "use the server"
            )

    @property
    def key(self) -> str | None:
        """The key of the settings or of the environment."""
        return self.api_key or os.environ.get(_KEY_VARIABLE) or None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(plain: dict[str, Any]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    try:
        from gpt2_lightning.serving.operation.start import (
            THIS_MACHINE,
            Access,
            Address,
            Limits,
            LoadOptions,
            Options,
            start,
        )
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("gpt2_lightning"):
            raise
        raise UserError(f"serve needs {error.name}: pip install 'gpt2-lightning[serve]'") from None
    own = (*THIS_MACHINE, config.host.lower()) if is_loopback(config.host) else ()
    access = Access((*own, *map(str.lower, config.hosts)) or None, config.key)
    limits = Limits(rows=config.batch_size, queue=config.queue, tokens=config.max_tokens, seconds=config.timeout)
    load = LoadOptions(Path(config.runs_dir).expanduser(), config.base)
    start(
        Options(
            checkpoints=(config.checkpoint, *config.also),
            load=load,
            device=config.device,
            dtype=config.dtype,
            quantize=config.quantize,
            address=Address(config.host, config.port),
            access=access,
            limits=limits,
            workers=config.workers,
            grace=config.grace,
            log_texts=config.log_texts,
        )
    )
