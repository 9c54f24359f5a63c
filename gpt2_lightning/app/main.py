"""From a command line to a verb. Nothing heavy is imported before the configuration is composed."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

VERBS = {
    "prepare": "make token shards from a corpus, once",
    "tokenizer": "train a tokenizer, and look at one",
    "train": "pre-train a model on a text",
    "finetune": "adapt a trained model to a task",
    "generate": "let a checkpoint write",
    "predict": "let a classifier label texts",
    "compare": "a checkpoint beside transformers' GPT-2, and why they differ",
    "convert": "to and from Hugging Face's format; from nanoGPT's and minGPT's",
    "attention": "which token attends to which, as numbers, pictures and a page",
    "params": "a model's tensors, sums and cost, as a table, a tree or CSV",
    "plot": "curves of one run or many, as a picture or a page",
}
USER_ERROR = 2
_INTERRUPTED = 130
_PACKAGE = Path(__file__).parent.parent


def main(verb: str, arguments: list[str] | None = None) -> NoReturn:
    """Run a verb as a Hydra application and exit.

    Exit codes: 0 done, 2 a user's mistake, 130 Ctrl-C, 143 SIGTERM, 1 anything else.
    """
    if sys.version_info >= (3, 14):
        found = ".".join(map(str, sys.version_info[:3]))
        fail(f"GPT-2 Lightning runs on Python 3.11 to 3.13, this is {found}: make the environment with one of those")
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from gpt2_lightning.app.command_line import CommandLine

    command_line = CommandLine.read(sys.argv[1:] if arguments is None else arguments, config_folder())
    if command_line.faults and command_line.only_shows:
        fail(_listed(command_line.faults))
    sys.argv = [sys.argv[0], *command_line.arguments]
    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra's exceptions through, to be told here

    # Hydra reports an exception of a task before it lets it through; SystemExit passes in silence.
    def task(config: DictConfig) -> Any:
        try:
            return _run(verb, config, command_line.faults)
        except UserError as error:
            fail(str(error))
        except PermissionError as error:
            fail(f"{error.filename} cannot be used: {error.strerror}; choose another place")
        except KeyboardInterrupt:
            fail("stopped at once; what was saved before is kept", _INTERRUPTED)

    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)()
    except KeyboardInterrupt:
        fail("stopped", _INTERRUPTED)
    except (HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        fail(f"the configuration cannot be composed: {error}{cause}")
    sys.exit(0)


def _run(verb: str, config: DictConfig, faults: list[str]) -> Any:
    """Check the configuration and hand it, resolved, to the verb's module."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from gpt2_lightning.app.preflight import preflight

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN and "run_dir" in config:
        if config.resume in ("auto", "must"):
            raise UserError(
                f"resume={config.resume} cannot tell the jobs of a sweep apart; name a run with resume=PATH"
            )
        config.run_dir = job.runtime.output_dir
    module = importlib.import_module(f"gpt2_lightning.app.{verb}")
    checked, more = preflight(config, module.Config)
    if faults or more:
        raise UserError(_listed([*faults, *more]))
    if "trainer" in checked:
        from gpt2_lightning.app import launch

        return launch.run(verb, checked)
    return module.run(checked)


def register_resolvers() -> None:
    """Let a YAML say ${divide:a,b}."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("divide", lambda dividend, divisor: dividend / divisor, replace=True)


@functools.cache
def config_folder() -> Path:
    """`conf`: inside the package in a wheel, beside it in a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Say what went wrong, without a stack trace, and exit."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _listed(faults: list[str]) -> str:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{count} in the configuration\n" + "\n".join(f"  {fault}" for fault in faults)
