"""Logger for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gpt2_lightning.training.loggers.run_logger import RunLogger, flat
from gpt2_lightning.training.metrics.monitor import VAL_LOSS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoardLogger(RunLogger):
    """Write event files to the run's folder; `tensorboard --logdir runs` displays all runs.

    The settings of the run are in the tab HParams, with its monitored metric.

    A resumed run hides the events after the step from which it resumes.

    Args:
        run_dir: the run's folder, for `tensorboard/`.
    """

    package = "tensorboard"

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.folder = run_dir / FOLDER
        self._params: dict[str, Any] = {}
        self._writer: SummaryWriter | None = None

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        self._params = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None, "rows have their step"
        writer = self._open(step)
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def log_text(self, key: str, text: str, step: int) -> None:
        self._open(step).add_text(key, _as_it_stands(text), step)

    def log_picture(self, key: str, file: Path, step: int) -> None:
        from matplotlib.image import imread

        self._open(step).add_image(key, imread(file), step, dataformats="HWC")

    def finalize(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> SummaryWriter:
        """Return the writer, which is created at the first step because it purges later ones of an earlier start."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
            # SummaryWriter.add_hparams would write them as a run of their own, without the run's curves.
            for summary in hparams(_hyperparameters(self._params), {self._params.get("monitor", VAL_LOSS): 0.0}):
                self._writer._get_file_writer().add_summary(summary)
            config = yaml.safe_dump(self._params, sort_keys=False, allow_unicode=True)
            self._writer.add_text("config", _as_it_stands(config), step)
        return self._writer


def _hyperparameters(params: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the configuration as the plain values of TensorBoard's HParams tab, by dotted key."""
    values = flat({key: value for key, value in params.items() if key != "git"})
    return {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values.items()}


def _as_it_stands(text: str) -> str:
    """Format a text as an indented Markdown block, which TensorBoard displays verbatim."""
    return "".join(f"    {line}\n" for line in text.splitlines())
