"""Flags of a headless browser that prints a page after its scripts have run."""

from __future__ import annotations

from tests import chromium

FLAGS = (
    *chromium.FLAGS,
    "--enable-logging=stderr",
    "--window-size=1400,1000",
    "--virtual-time-budget=3000",
    "--dump-dom",
)
