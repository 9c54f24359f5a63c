"""Logger for Weights & Biases."""

from __future__ import annotations

import html
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.atomic import write_text
from gpt2_lightning.training.loggers.reachable import answers
from gpt2_lightning.training.loggers.run_logger import RunLogger, kept_id

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

ID = "wandb.id"
_INIT_SECONDS = 15
"""Timeout of the creation of a run on a reachable server."""
_FINISH_SECONDS = 120
"""Timeout of the upload at the end of a run; data not yet sent stays on disk."""
_EXIT_CODES = {"success": 0, "interrupted": 130}


class WandbLogger(RunLogger):
    """Log to a run of W&B, or offline to files for a later sync if the server does not respond within seconds.

    A resumed run continues the same W&B run. `WANDB_MODE=offline` and `wandb offline` are respected.

    Args:
        run_dir: the run's folder, for `wandb/` and the run's id in `wandb.id`.
        run_name: default of the display name.
        sweep: name of the run's sweep; None for a run outside of a sweep.
        project: project that groups the runs.
        entity: user or team; None for the default of the login.
        name: display name of the run; None for `run_name`.
        group: group of the run; None for the sweep.
        tags: labels to filter by.
    """

    package = "wandb"

    def __init__(
        self,
        run_dir: Path,
        run_name: str,
        sweep: str | None,
        project: str = "gpt2-lightning",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.run_dir = run_dir
        self._settings = {
            "project": project,
            "entity": entity,
            "name": name or run_name,
            "group": group or sweep,
            "tags": tags,
        }
        self._run: wandb.Run | None = None

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        mode, why = _mode()
        if mode == "online":
            try:
                self._start("online", params)
            except Exception as error:  # the exceptions for an invalid response are not documented
                mode, why = "offline", f"the service refused the run ({' '.join(str(error).split())})"
        if self._run is None:
            self._start(mode, params)
        if why:
            log.warning("wandb: %s, so the run is kept here; later: wandb sync %s", why, self._folder())
        elif mode == "online" and self._run is not None:
            log.info("wandb:  %s", self._run.url)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._opened().log({"step": step, **metrics})

    def log_text(self, key: str, text: str, step: int) -> None:
        import wandb

        self._opened().log({"step": step, key: wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False)})

    def log_picture(self, key: str, file: Path, step: int) -> None:
        import wandb

        self._opened().log({"step": step, key: wandb.Image(str(file))})

    def finalize(self, status: str) -> None:
        if self._run is not None:
            folder = self._folder()
            try:
                self._run.finish(exit_code=_EXIT_CODES.get(status, 1))
            except TimeoutError:
                log.warning("wandb: not all was sent in %d seconds; later: wandb sync %s", _FINISH_SECONDS, folder)
            self._run = None

    def _start(self, mode: str, params: dict[str, Any]) -> None:
        import wandb

        known = kept_id(self.run_dir / ID)
        run_id = known or secrets.token_hex(4)
        self._run = wandb.init(
            id=run_id,
            resume="allow" if known and mode == "online" else None,
            mode=mode,  # type: ignore[arg-type]  # a valid mode of W&B
            dir=str(self.run_dir),
            config=params,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
            **self._settings,  # type: ignore[arg-type]
        )
        write_text(self.run_dir / ID, run_id, durable=False)
        # W&B's internal step must increase, which the step of a run resumed from an earlier checkpoint does not.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def _opened(self) -> wandb.Run:
        assert self._run is not None, "log_hyperparams comes first"
        return self._run

    def _folder(self) -> str:
        return str(Path(self._opened().dir).parent)


def _mode() -> tuple[str, str]:
    """Return the mode of W&B, and the reason if it is offline against the user's settings (else an empty string)."""
    import wandb

    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if os.environ.get("WANDB_MODE", settings.mode) != "online":
        return os.environ.get("WANDB_MODE", settings.mode), ""
    if not answers(settings.base_url):
        return "offline", f"{settings.base_url} does not answer"
    if not wandb.login(verify=False, prompt=False):
        return "offline", "there is no login (wandb login)"
    return "online", ""
