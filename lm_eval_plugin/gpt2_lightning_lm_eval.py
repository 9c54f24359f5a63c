"""Registers the model `gpt2-lightning` with versions of lm-evaluation-harness that do not read entry points.

`gpt2_lightning_lm_eval.pth` imports this module when Python starts. It imports nothing until the harness is used, which
then imports `gpt2_lightning` only if the model is chosen.
"""

import sys


class Registration:
    """Import finder that finds no module; registers the model when lm-evaluation-harness imports its own."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name != "lm_eval.models":
            return
        try:
            from lm_eval.api.registry import model_registry
        except ImportError:  # a version before 0.4.10
            return
        if "gpt2-lightning" not in model_registry:
            model_registry.register("gpt2-lightning", target="gpt2_lightning.harness:HarnessModel")


sys.meta_path.insert(0, Registration)
