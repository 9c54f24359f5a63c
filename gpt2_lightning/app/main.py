"""Entry point of the command line. Heavy packages are imported only after the configuration is composed."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from gpt2_lightning import __version__, gpus
from gpt2_lightning.app.config.registration import register_with_hydra
from gpt2_lightning.app.output.exits import (
    exiting_at_interrupt,
    exiting_at_sigterm,
    fail,
    fault_list,
    os_error_message,
    raise_at_interrupt,
    reporting_signals,
)
from gpt2_lightning.app.output.streams import guard_output, raise_logging_errors
from gpt2_lightning.app.verbs import module_of
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.process_folder import remove_abandoned

if TYPE_CHECKING:
    from omegaconf import DictConfig

_TRAINING = ("train", "finetune")
_WITH_FILES = (*_TRAINING, "prepare", "sweep", "convert", "merge", "evaluate")
"""Verbs whose results are files: what they print may be lost."""


def main(verb: str, arguments: list[str] | None = None) -> NoReturn:
    """Run a verb as a Hydra application and exit.

    Exit codes: 0 success, 2 user error, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP in training, 1 any other failure.

    Args:
        verb: one of `verbs.PURPOSES`.
        arguments: command-line arguments after the verb; None for those of `sys.argv`.
    """
    with exiting_at_interrupt():
        _main(verb, arguments)


def _main(verb: str, arguments: list[str] | None) -> NoReturn:
    guard_output(required=verb not in _WITH_FILES)
    if verb in _WITH_FILES:
        remove_abandoned()
    if sys.version_info >= (3, 14):
        found = ".".join(map(str, sys.version_info[:3]))
        fail(f"GPT-2 Lightning runs on Python 3.11 to 3.13, this is {found}: make the environment with one of those")
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from gpt2_lightning.app.config.overrides import CommandLine, without_dashes

    given = [without_dashes(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    if "--version" in given:
        print(__version__)
        sys.exit(0)
    own, of_runs = (given, []) if verb != "sweep" else _shared_out(given)
    command_line = CommandLine.read(own, config_folder(), verb)
    if command_line.faults and command_line.only_shows:
        fail(fault_list(command_line.faults))
    if command_line.asks_for_help:
        from gpt2_lightning.app.config.help import help_text
        from gpt2_lightning.app.output.terminal import until_the_reader_stops

        with until_the_reader_stops():
            print(help_text(verb, command_line.folders, given))
        sys.exit(0)
    if command_line.only_shows:
        raise_logging_errors()
    sys.argv = [sys.argv[0], *command_line.arguments]
    register_with_hydra(verb, *(_TRAINING if verb == "sweep" else ()))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # propagate Hydra's exceptions, reported below
    if verb in _TRAINING and command_line.sweeps:
        from gpt2_lightning.app.config.hydra_state import prefer_own_launcher_configs

        prefer_own_launcher_configs()
        raise_at_interrupt()
    task = Task(verb, command_line.faults, given, of_runs)
    try:
        with exiting_at_sigterm(), reporting_signals():
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)()
            print(end="", flush=True)
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader has seen enough, as in --info defaults-tree | head
        sys.exit(0)
    except OSError as error:  # of a sweep
        fail(os_error_message(error))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        fail(f"the configuration cannot be composed: {error}{cause}")
    sys.exit(0)


class Task:
    """Hydra's task function, called with a composed configuration, also in processes started by a launcher.

    Args:
        verb: one of `verbs.PURPOSES`.
        faults: faults found before Hydra composed the configuration.
        arguments: command-line arguments as typed.
        of_runs: overrides for the trials of the verb `sweep`.
    """

    def __init__(self, verb: str, faults: list[str], arguments: list[str], of_runs: list[str]) -> None:
        self.verb, self.faults = verb, faults
        self.arguments, self.of_runs = arguments, of_runs

    def __call__(self, config: DictConfig) -> Any:
        # Hydra logs exceptions of a task before it re-raises them, except SystemExit.
        try:
            with reporting_signals():
                result = self._run(config)
                print(end="", flush=True)
                return result
        except UserError as error:
            fail(str(error))
        except BrokenPipeError:  # the reader of the results has seen enough, as in … | head
            sys.exit(0)
        except OSError as error:
            fail(os_error_message(error))
        except RuntimeError as error:
            if (message := gpus.failure(error)) is None:
                raise
            kept = ". What was saved before is kept: resume=must goes on with it" if self.verb in _TRAINING else ""
            fail(f"{message}{kept}", 1)

    def _run(self, config: DictConfig) -> Any:
        """Check and resolve the configuration, and call `run` of the verb's module."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        if self.verb in _TRAINING and HydraConfig.get().mode == RunMode.MULTIRUN:
            from gpt2_lightning.app.sweeping.launched_run import run_job

            return run_job(self.verb, config)
        if self.verb == "sweep":
            config.overrides = [*config.overrides, *self.of_runs]
        module = importlib.import_module(module_of(self.verb))
        if self.verb in _TRAINING:
            from gpt2_lightning.app.run.replay import check

            checked, more = check(self.verb, config, module.Config)
        else:
            from gpt2_lightning.app.config.preflight import preflight

            checked, more = preflight(config, module.Config)
        left_out = {fault.partition(":")[0] for fault in self.faults}
        faults = [*self.faults, *(fault for fault in more if fault.partition(":")[0] not in left_out)]
        if faults:
            raise UserError(fault_list(faults))
        if "trainer" in checked:
            from gpt2_lightning.app.launch import launcher

            raise_at_interrupt()
            return launcher.run(self.verb, checked)
        raise_at_interrupt()
        return module.run(checked)


def _shared_out(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of the verb `sweep` into its own, including all flags, and the overrides of its trials."""
    from hydra._internal.utils import get_args_parser

    from gpt2_lightning.app.config.schema import settings_of_verb

    own = settings_of_verb("sweep")
    overrides = get_args_parser().parse_intermixed_args(arguments).overrides
    of_runs = [one for one in overrides if one.partition("=")[0] not in own and not one.startswith("hydra.")]
    return [argument for argument in arguments if argument not in of_runs], of_runs
