"""A run in Weights & Biases."""

from __future__ import annotations

import html
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.training.loggers.reachable import answers
from gpt2_lightning.training.loggers.run_logger import RunLogger, kept_id

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

ID = "wandb.id"
_INIT_SECONDS = 15
"""How long the beginning waits for a service that answers, but not with a run."""
_FINISH_SECONDS = 120
"""How long the end of a run waits for what is not sent yet; the rest stays on disk."""
_EXIT_CODES = {"success": 0, "interrupted": 130}


class WandbLogger(RunLogger):
    """A run of W&B, or its files for later where the service does not answer within seconds.

    A resumed run goes on as the same run. `WANDB_MODE=offline` and `wandb offline` count.

    Args:
        run_dir: the run's folder, for `wandb/` and the run's id in `wandb.id`.
        run_name: what the run is called here.
        sweep: what the sweep that it belongs to is called, if it does.
        project: where runs are shown together.
        entity: a user or team; None for the default of the login.
        name: another name for the run.
        group: another group than the sweep.
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
            except Exception as error:  # what it raises for a service that answers wrongly is not documented
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
            mode=mode,  # type: ignore[arg-type]  # one of W&B's own words
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
        (self.run_dir / ID).write_text(run_id, encoding="utf-8")
        # W&B's own step must grow, and that of a run that goes on from before its end does not.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def _opened(self) -> wandb.Run:
        assert self._run is not None, "log_hyperparams comes first"
        return self._run

    def _folder(self) -> str:
        return str(Path(self._opened().dir).parent)


def _mode() -> tuple[str, str]:
    """What W&B is to do, and why that is not what it would do."""
    import wandb

    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if os.environ.get("WANDB_MODE", settings.mode) != "online":
        return os.environ.get("WANDB_MODE", settings.mode), ""
    if not answers(settings.base_url):
        return "offline", f"{settings.base_url} does not answer"
    if not wandb.login(verify=False, prompt=False):
        return "offline", "there is no login (wandb login)"
    return "online", ""
