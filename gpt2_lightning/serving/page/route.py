"""The route of the page."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from gpt2_lightning.serving.page.join import page


def add_page(app: FastAPI) -> None:
    """Answer `GET /` with the page. It needs no API key: it asks for one, and holds nothing of a model."""

    @app.get("/", include_in_schema=False)
    async def answer() -> HTMLResponse:
        html, policy = page()
        headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        return HTMLResponse(html, headers=headers)
