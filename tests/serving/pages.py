"""The page of a server in Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
import uvicorn

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.pretrained.loaded_model import LoadedModel
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.serving.lane import Limits
from gpt2_lightning.serving.models import Models
from gpt2_lightning.serving.operation.connections import Connection
from gpt2_lightning.serving.operation.guard import Access
from gpt2_lightning.serving.operation.server import guarded
from tests.chromium import FLAGS
from tests.serving.served import loaded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SECONDS = 60
"""Time that anything may take on a busy machine."""
LABELS = LabelTask(("ham", "spam"), "single", "last", 40)


def classifier() -> LoadedModel:
    """A classifier of random weights."""
    found = loaded("labels", task=LABELS.to_plain())
    torch.manual_seed(3)
    return LoadedModel(**{**vars(found), "score": torch.randn(LABELS.n_scores, found.model.config.n_embd)})


@contextlib.contextmanager
def server(*models: LoadedModel, api_key: str | None = None) -> Iterator[tuple[str, Engine]]:
    """Address and engine of a server on a free port of this machine."""
    engine = Engine(Models(models), Limits())
    app = guarded(engine, Access(api_key=api_key))
    config = uvicorn.Config(app, port=0, log_level="warning", ws="none", http=Connection)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    end = time.monotonic() + _SECONDS
    while not running.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.02)
    assert running.started
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", engine
    finally:
        running.should_exit = True
        thread.join(30)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A reader at the page, with what the browser has noticed."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)
    """Errors and warnings of the console, and errors of scripts."""
    elsewhere: list[str] = field(default_factory=list)
    """Requests to other addresses."""

    def listen(self) -> None:
        """Collect what the browser notices."""
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.faults.append(m.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        is_own = (f"{self.address}/", "data:", "blob:")
        self.page.on("request", lambda r: r.url.startswith(is_own) or self.elsewhere.append(r.url))

    def set(self, **values: Any) -> None:
        """Move sliders and fill fields, by their ids."""
        for name, value in values.items():
            self.page.locator(f"#{name}").fill(str(value))

    def write(self, prompt: str, **values: Any) -> str:
        """Write from a prompt; returns the text with the prompt."""
        self.set(**values)
        self.page.fill("#prompt", prompt)
        self.page.click("#write")
        self.wait()
        return self.text()

    def wait(self) -> None:
        """Wait until the page is at rest."""
        self.until("MODELS.length > 0 && !PANES.some((pane) => pane.running) && $('next-panel').ariaBusy === 'false'")

    def until(self, condition: str) -> None:
        """Wait for a condition of the page. Its policy refuses Playwright's own way, which is `eval`."""
        end = time.monotonic() + _SECONDS
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(20)

    def text(self, pane: int = 0) -> str:
        """The text that a pane shows."""
        tokens = self.page.locator(".pane").nth(pane).locator("[data-token]").all_text_contents()
        return "".join(tokens)

    def tokens(self) -> Any:
        """The tokens of all panes."""
        return self.page.locator("[data-token]")
