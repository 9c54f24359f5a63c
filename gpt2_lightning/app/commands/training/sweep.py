"""The verb `sweep`: hyperparameter search with Optuna."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.sweeping.settings import SweepSettings
from gpt2_lightning.errors import UserError

Config = SweepSettings


def run(plain: dict[str, Any]) -> None:
    """Run the remaining trials, and report the results.

    Args:
        plain: the resolved configuration, checked by preflight.

    Raises:
        UserError: if Optuna is not installed, or settings of the trials have faults, all of which the message lists.
        SystemExit: if the search was stopped, or no trial has succeeded.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("sweep needs optuna: pip install 'gpt2-lightning[sweep]'")
    from gpt2_lightning.app.sweeping.study import Search

    log_to_terminal()
    code = Search(SweepSettings(**plain)).run()
    if code:
        sys.exit(code)
