"""The verb `sweep`: the best settings of a training, by trials that learn from each other."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.sweeping.settings import SweepSettings
from gpt2_lightning.errors import UserError

Config = SweepSettings


def run(plain: dict[str, Any]) -> None:
    """Carry out the trials that are left, and tell what they found.

    Raises:
        UserError: if Optuna is not installed, or for every fault in the settings of the trials.
        SystemExit: if the search was stopped, or no trial has succeeded.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("sweep needs optuna: pip install 'gpt2-lightning[sweep]'")
    from gpt2_lightning.app.sweeping.study import Search

    log_to_terminal()
    code = Search(SweepSettings(**plain)).run()
    if code:
        sys.exit(code)
