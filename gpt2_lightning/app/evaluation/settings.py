"""Settings of the verb `evaluate`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpt2_lightning.app.config import build, targets
from gpt2_lightning.app.config.help import headline
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark
from gpt2_lightning.evaluation.benchmarks.configured import GROUP
from gpt2_lightning.pretrained.devices import Device, DType, Quantization
from gpt2_lightning.settings import PathText, PositiveInt, Settings, relation


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The top level of `conf/evaluate.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    benchmarks: targets.Benchmarks = field(default_factory=dict)
    """The benchmarks, by name."""
    trusted_modules: list[str] = field(default_factory=list)
    """Modules of your own that a `_target_` may name; only on the command line, since importing one runs its code."""
    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: PathText = "latest"
    """`latest`, a run's folder, a checkpoint file, a Hugging Face folder, or `hf:NAME@REVISION`."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    compare_with: PathText | None = None
    """Another model, named as the checkpoint, for a paired comparison on the same items."""
    data_dir: PathText | None = None
    """A folder with a folder of data for each benchmark; null to fetch the data from the Hugging Face Hub."""
    limit: PositiveInt | None = None
    """Number of items of each benchmark, evenly spaced; null for all, or the benchmark's own limit."""
    tokens_per_batch: PositiveInt = 8192
    """Largest number of tokens of a forward pass; fewer take less memory."""
    device: Device = "auto"
    """Device; `auto` for the fastest available, and all GPUs of the machine."""
    dtype: DType = "auto"
    """Data type of the computation; `auto` for that of the weights."""
    quantize: Quantization = "none"
    """`int8` for int8 weights on a CPU; both models of `compare_with` have them."""
    output: PathText | None = None
    """Folder of the results; null for `evaluation/CHECKPOINT` in the folder of the run, or beside the model."""
    overwrite: bool = False
    """Whether results that exist are computed again."""

    @relation
    def _there_are_benchmarks(self) -> Iterator[str]:
        if not any(self.benchmarks.values()):
            files = sorted((config_folder() / GROUP).glob("*.yaml"))
            lines = "".join(f"\n    {file.stem:14} {textwrap.shorten(headline(file), 100)}" for file in files)
            yield f"benchmarks: name one or more, as in benchmarks=[lambada,hellaswag]; there are{lines}"

    def made_benchmarks(self) -> dict[str, Benchmark]:
        """Return the benchmarks with their settings; `limit` applies to those without a limit of their own."""
        found = {}
        for name, node in self.benchmarks.items():
            if node is not None:
                limited = {**node, "limit": self.limit} if node.get("limit") is None and self.limit else node
                found[name] = build.make(limited)
        return found

    def data_folder(self) -> Path | None:
        """Return the folder of the data."""
        return None if self.data_dir is None else Path(self.data_dir).expanduser()
