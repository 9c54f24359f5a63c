"""Folders of runs, written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HEAD = "step,epoch,tokens,train/loss,val/loss,lr,tokens_per_second\n"


def write_run(
    folder: Path, rows: str, settings: dict[str, Any] | None = None, head: str = HEAD, end: str = "\n"
) -> Path:
    """A run's folder with a metrics.csv of these rows, and a configuration where settings are given."""
    folder.mkdir(parents=True)
    text = "\n".join(line.strip() for line in rows.strip().splitlines())
    (folder / "metrics.csv").write_text(head + text + (end if text else ""), encoding="utf-8")
    if settings is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


USUAL = """
    10,0.1,1000,4.0,,0.001,100
    20,0.2,2000,3.0,,0.002,200
    20,0.2,2000,,3.5,,
    40,0.4,4000,2.0,,0.001,50
    40,0.4,4000,,3.25,,
"""
"""Ten seconds to the first row, five to the second, forty to the last."""
