"""Logger for MLflow."""

from __future__ import annotations

import itertools
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.loggers.reachable import answers
from gpt2_lightning.training.loggers.run_logger import RunLogger, flat, kept_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID = "mlflow.id"
_MOST_PARAMS, _MOST_METRICS = 100, 1000
"""Limits of one request."""
_LONGEST_PARAM = 500
_STATES = {"success": "FINISHED", "interrupted": "KILLED"}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Retries and timeout in seconds; MLflow's defaults block training for minutes."""


class MLflowLogger(RunLogger):
    """Log to a run of MLflow. A resumed run continues the same MLflow run.

    Args:
        run_dir: the run's folder, for the run's id in `mlflow.id`.
        run_name: display name of the run.
        sweep: name of the run's sweep; None for a run outside of a sweep.
        tracking_uri: URI of a server, or of a database such as sqlite:///runs/mlflow.db.
        artifacts: folder for texts and images of a new experiment; None for the server's default.
        experiment: experiment that groups the runs.
    """

    package = "mlflow"

    def __init__(
        self,
        run_dir: Path,
        run_name: str,
        sweep: str | None,
        tracking_uri: str,
        artifacts: str | None = None,
        experiment: str = "gpt2-lightning",
    ) -> None:
        super().__init__()
        self.run_dir, self.run_name, self.sweep = run_dir, run_name, sweep
        self.tracking_uri, self.artifacts, self.experiment = tracking_uri, artifacts, experiment
        self._client: MlflowClient | None = None
        self._id = ""

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        if self.tracking_uri.startswith("http") and not answers(self.tracking_uri):
            raise UserError(f"the server {self.tracking_uri} does not answer")
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)

        self._client = MlflowClient(self.tracking_uri)
        known = kept_id(self.run_dir / ID)
        if known is None:
            self._id = self._begin(self._client, params)
            write_text(self.run_dir / ID, self._id, durable=False)
        else:  # MLflow does not allow changes of its parameters
            self._id = known
            self._client.set_terminated(known, "RUNNING")
        self._client.log_text(self._id, yaml.safe_dump(params, sort_keys=False, allow_unicode=True), "config.yaml")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = iter([Metric(key, float(value), now, step or 0) for key, value in metrics.items()])
        while some := list(itertools.islice(rows, _MOST_METRICS)):
            self._opened().log_batch(self._id, metrics=some)

    def log_text(self, key: str, text: str, step: int) -> None:
        self._opened().log_text(self._id, text, f"{key}/step-{step:06d}.txt")

    def log_picture(self, key: str, file: Path, step: int) -> None:
        self._opened().log_artifact(self._id, str(file), key)

    def finalize(self, status: str) -> None:
        if self._client is not None and self._id:
            self._client.set_terminated(self._id, _STATES.get(status, "FAILED"))

    def _begin(self, client: MlflowClient, params: dict[str, Any]) -> str:
        from mlflow.entities import Param

        found = client.get_experiment_by_name(self.experiment)
        place = Path(self.artifacts).absolute().as_uri() if self.artifacts else None
        experiment = found.experiment_id if found else client.create_experiment(self.experiment, place)
        tags = {"sweep": self.sweep} if self.sweep else {}
        run_id: str = client.create_run(experiment, tags=tags, run_name=self.run_name).info.run_id
        known = iter([Param(key, str(value)[:_LONGEST_PARAM]) for key, value in flat(params).items()])
        while some := list(itertools.islice(known, _MOST_PARAMS)):
            client.log_batch(run_id, params=some)
        return run_id

    def _opened(self) -> MlflowClient:
        assert self._client is not None, "log_hyperparams comes first"
        return self._client
