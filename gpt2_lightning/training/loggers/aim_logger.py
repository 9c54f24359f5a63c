"""Logger for Aim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.atomic import write_text
from gpt2_lightning.training.loggers.run_logger import RunLogger, kept_id

if TYPE_CHECKING:
    import aim

ID = "aim.id"


class AimLogger(RunLogger):
    """Log to a run of Aim; `aim up --repo runs` displays all runs. A resumed run continues the same Aim run.

    Args:
        run_dir: the run's folder, for the run's id in `aim.id`.
        run_name: display name of the run.
        sweep: name of the run's sweep; None for a run outside of a sweep.
        repo: folder that contains `.aim`, which is created if missing.
        experiment: experiment that groups the runs.

    Raises:
        ValueError: if `repo` is the address of a server: Aim has no timeout for an unreachable one, so the run would
            hang.
    """

    package = "aim"

    def __init__(
        self, run_dir: Path, run_name: str, sweep: str | None, repo: str, experiment: str = "gpt2-lightning"
    ) -> None:
        super().__init__()
        if "://" in repo:
            raise ValueError(
                f"repo: '{repo}' is a server, for which Aim waits without end when it is gone; name a folder, which "
                "aim up --repo FOLDER shows, also to others with --host 0.0.0.0"
            )
        self.run_dir, self.run_name, self.sweep = run_dir, run_name, sweep
        self.repo, self.experiment = repo, experiment
        self._run: aim.Run | None = None

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        import aim

        self._run = aim.Run(
            run_hash=kept_id(self.run_dir / ID),
            repo=aim.Repo.from_path(self.repo, init=True),
            experiment=self.experiment,
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        self._run.name = self.run_name
        for key, value in params.items():
            self._run[key] = value
        if self.sweep:
            self._run["sweep"] = self.sweep
        write_text(self.run_dir / ID, self._run.hash, durable=False)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for key, value in metrics.items():
            self._opened().track(float(value), name=key, step=step)

    def log_text(self, key: str, text: str, step: int) -> None:
        import aim

        self._opened().track(aim.Text(text), name=key, step=step)

    def log_picture(self, key: str, file: Path, step: int) -> None:
        import aim

        self._opened().track(aim.Image(str(file)), name=key, step=step)

    def finalize(self, status: str) -> None:
        if self._run is not None:
            self._run["status"] = status
            self._run.close()
            self._run = None

    def _opened(self) -> aim.Run:
        assert self._run is not None, "log_hyperparams comes first"
        return self._run
