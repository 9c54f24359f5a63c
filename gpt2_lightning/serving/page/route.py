"""The route of the page."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from gpt2_lightning.serving.page.join import page


def add_page(app: FastAPI) -> None:
    """Answer `GET /` with the page."""

    @app.get("/", include_in_schema=False)
    async def answer() -> HTMLResponse:
        html, policy = page()
        return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
