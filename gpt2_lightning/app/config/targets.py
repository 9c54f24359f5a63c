"""Targets of configurations: what the `_target_` of each group of settings may make, and its import.

A place accepts objects of the kinds stated in its annotation, whatever the module. Importing a module runs its code, so
only modules of `ALLOWED_MODULES` are imported, and those that the command line names in `trusted_modules`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from gpt2_lightning.app.config.moved import TARGET
from gpt2_lightning.errors import UserError

ALLOWED_MODULES = (
    "gpt2_lightning",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "torchmetrics",
)
"""Modules from which a `_target_` may be imported, including their submodules."""
TRUST = "trusted_modules"
_UNUSABLE = {
    "lightning.pytorch.callbacks.Checkpoint": "callbacks.checkpoint saves checkpoints here",
    "lightning.pytorch.callbacks.BaseFinetuning": "finetune's freeze selects the trained parameters",
    "lightning.pytorch.callbacks.ProgressBar": "a run has a progress bar of its own",
    "lightning.pytorch.callbacks.GradientAccumulationScheduler": "micro_batch_size determines the accumulation",
    "lightning.pytorch.callbacks.BatchSizeFinder": "use micro_batch_size=auto",
    "lightning.pytorch.callbacks.LearningRateFinder": "search optimizer.lr by gpt2-lightning sweep",
}  # fmt: skip
"""Lightning's callbacks that conflict with the Trainer of this project, and what to use instead."""


class Makes:
    """Marks the annotation of a group of settings with the classes of which its `_target_` makes an instance.

    Args:
        kinds: dotted paths of classes, which are imported only for a check.
    """

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds


Node = dict[str, Any]
"""A group of settings with a `_target_`, whose signature is its schema."""
Data = Annotated[
    Node,
    Makes(
        "gpt2_lightning.data.corpus.CorpusSettings",
        "gpt2_lightning.data.corpora.token_files.TokenFiles",
        "gpt2_lightning.data.corpora.mix.Mix",
        "gpt2_lightning.data.tables.table.Table",
    ),
]
Tokenizer = Annotated[Node, Makes("gpt2_lightning.tokenizers.Tokenizer")]
Model = Annotated[Node, Makes("gpt2_lightning.model.GPT2Config")]
Optimizer = Annotated[Node, Makes("gpt2_lightning.training.optimizers.OptimizerSpec")]
Schedule = Annotated[Node, Makes("gpt2_lightning.training.schedules.Schedule")]
Trainer = Annotated[Node, Makes("gpt2_lightning.training.trainer.TrainerSpec")]
Callbacks = dict[str, Annotated[Node, Makes("lightning.pytorch.callbacks.Callback")] | None]
Metrics = dict[str, Annotated[Node, Makes("torchmetrics.Metric")] | None]
Loggers = dict[str, Annotated[Node, Makes("lightning.pytorch.loggers.Logger")] | None]
Benchmarks = dict[str, Annotated[Node, Makes("gpt2_lightning.evaluation.benchmarks.benchmark.Benchmark")] | None]
Task = Annotated[Node, Makes("gpt2_lightning.app.finetuning.context.Task")]
Template = Annotated[Node, Makes("gpt2_lightning.data.instruction.templates.Template")]
LoRA = Annotated[
    Node, Makes("gpt2_lightning.model.lora.layers.LoRASpec", "gpt2_lightning.app.finetuning.adaptation.NoLoRA")
]


def kinds_of(hint: Any) -> tuple[type, ...]:
    """Return the classes whose instances a group of settings with this annotation makes; empty if it is no group.

    Besides the annotations above, classes of this package are groups, such as the corpora of a mix.
    """
    if typing.get_origin(hint) is Annotated:
        named = [mark.kinds for mark in typing.get_args(hint) if isinstance(mark, Makes)]
        return tuple(map(_import, named[0])) if named else ()
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for member in typing.get_args(hint) for kind in kinds_of(member))
    return (hint,) if inspect.isclass(hint) and hint.__module__.startswith(f"{ALLOWED_MODULES[0]}.") else ()


def locate(name: Any, kinds: tuple[type, ...]) -> Callable[..., Any]:
    """Import a target.

    Args:
        name: dotted path of a class, or of a function with an annotated result.
        kinds: classes of which it must make an instance.

    Raises:
        UserError: if it may not be imported, cannot be, or makes something else.
    """
    module_name, _, attribute = str(name).rpartition(".")
    trusted = trusted_modules()
    if not any(f"{module_name}.".startswith(f"{module}.") for module in (*ALLOWED_MODULES, *trusted)):
        own = module_name.partition(".")[0]
        hint = f"; if you trust your module '{own}', add '{TRUST}=[{own}]' to the command line"
        if not own.isidentifier():
            hint = ""
        elif _is_library(own):
            hint = f"; '{own}' has none, so write a class of your own that uses it (docs/extending.md)"
        where = ", ".join(ALLOWED_MODULES)
        raise UserError(f"'{name}' is refused; a target lies in one of {where}, and makes a {_shown(kinds)} here{hint}")
    if trusted and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as for a script; the installed command has its own folder there
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the module's own code, which may raise anything
        raise UserError(f"'{name}' cannot be imported: {error}") from None
    made = found if inspect.isclass(found) else _returned(found)
    if not (inspect.isclass(made) and issubclass(made, kinds)):
        raise UserError(f"'{name}' does not fit here: it makes no {_shown(kinds)}; choose an option of the group")
    for conflicting, instead in _UNUSABLE.items():
        package, _, last = conflicting.rpartition(".")
        if made.__module__.startswith(package) and issubclass(made, getattr(sys.modules[package], last)):
            raise UserError(f"'{name}' cannot be used; {instead}")
    return typing.cast("Callable[..., Any]", found)


def trusted_modules() -> list[str]:
    """Return the modules that the command line trusts; the setting has no effect in a YAML file or a replayed run."""
    import yaml
    from hydra.core.hydra_config import HydraConfig

    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    values = [value for key, _, value in (one.lstrip("+").partition("=") for one in given) if key == TRUST]
    stated = yaml.safe_load(values[-1]) if values else None
    return [str(one) for one in stated] if isinstance(stated, list) else []


def _is_library(package: str) -> bool:
    """Whether a package belongs to Python or is required by this project, so that it has no classes for a place."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        required = [re.split(r"[^\w-]", one)[0].replace("-", "_") for one in requires("gpt2-lightning") or []]
    except PackageNotFoundError:  # used without installation
        required = []
    return package in sys.stdlib_module_names or package in required


def holds_target(value: Any) -> bool:
    """Whether plain containers have a `_target_` at any depth."""
    if isinstance(value, dict):
        return TARGET in value or any(map(holds_target, value.values()))
    return isinstance(value, list) and any(map(holds_target, value))


@functools.cache
def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    kind = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(kind), "an annotation names classes"
    return kind


def _shown(kinds: tuple[type, ...]) -> str:
    return " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)


def _returned(found: Any) -> Any:
    """Return the annotated result of a function; None for anything else."""
    if not inspect.isfunction(found):
        return None
    try:
        return typing.get_type_hints(found).get("return")
    except NameError:  # a name imported for annotations only
        return None
