"""Loading of a run's best checkpoint."""

from __future__ import annotations

from typing import Any

from gpt2_lightning.app.run.job import Run
from gpt2_lightning.checkpoints import files, folder


def load_best(run: Run) -> Any:
    """Load the best checkpoint of a completed run into its model.

    Returns:
        The model in evaluation mode, on the training device.
    """
    model = run.task.model
    checkpoint = folder.best(run.folder)
    if checkpoint is not None:
        own = model.state_dict()
        saved = files.read(checkpoint)["state_dict"]
        # A classifier's checkpoint has the parameter names of the language model, without the prefix.
        model.load_state_dict({n if n in own else f"transformer.{n}": t for n, t in saved.items()}, strict=False)
    return model.to(run.task.trainer.strategy.root_device).eval()
