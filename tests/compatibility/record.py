"""Make the fixtures with the version that is installed: python tests/compatibility/record.py FOLDER CONF."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import lightning  # noqa: F401 - once for all processes
import torch
import yaml
from commands import ANSWERS, INTERRUPTED, MAKE, STOPPED_AFTER

from gpt2_lightning.app.main import main


def _inputs(folder: Path) -> None:
    words = ["ship", "Star", "keeper", "lamp", "goes", "over", "the", "old", "sea", "and", "back"]
    text = " ".join(words[(i * i // 5 + i) % 11] + (".\n" if i % 13 == 0 else "") for i in range(1400))
    (folder / "text.txt").write_text(text)
    (folder / "prompts.txt").write_text("the old sea\nship goes\nStar\nkeeper over\n")
    rows = [
        (f"{words[i * 7 % 11]} {words[i % 4]}", words[i % 3], "/".join(words[: i % 3]), i % 3 - 0.5) for i in range(40)
    ]
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "color", "colors", "score"), *rows])
    questions = [{"instruction": f"{words[i % 4]}?", "output": f"{words[i % 3]}!"} for i in range(40)]
    (folder / "questions.json").write_text(json.dumps(questions, indent=0) + "\n")


def _options(conf: Path) -> dict[str, Any]:
    """The first option of a configuration group for each `_target_`, as "group/name"."""
    options: dict[str, Any] = {}
    seen: set[str] = set()
    for file in sorted(conf.glob("*/*.yaml")):
        settings = yaml.safe_load(file.read_text())
        settings.pop("defaults", None)
        nodes = [settings, *settings.values()]
        targets = {node["_target_"] for node in nodes if isinstance(node, dict) and "_target_" in node}
        if file.parent.name not in {"experiment", "launcher"} and targets - seen:
            options[f"{file.parent.name}/{file.stem}"] = settings
        seen |= targets
    return options


def _run(folder: Path, command: str, before: Callable[[], None] | None = None, expected: int = 0) -> None:
    """Run a command line in a process of its own.

    Args:
        folder: the working folder.
        command: verb and arguments.
        before: called in that process, before the program.
        expected: exit code.
    """
    verb, *arguments = command.split()
    if (pid := os.fork()) == 0:
        os.chdir(folder)
        os.environ["HOME"] = str(folder / "home")
        sys.argv = ["gpt2-lightning", verb, *arguments]
        if before is not None:
            before()
        main(verb, arguments)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != expected:
        raise SystemExit(f"{command}: exit code {code}")


def _terminate_in_time() -> None:
    """Send SIGTERM to this process while the optimizer takes a step."""
    step, taken = torch.optim.AdamW.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == STOPPED_AFTER:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args, **kwargs)

    torch.optim.AdamW.step = counted


def record(folder: Path, conf: Path) -> None:
    """Replace a folder by one with new fixtures.

    Args:
        folder: the fixtures' folder.
        conf: the configuration folder of the version that is installed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "expected").mkdir(parents=True)
    _inputs(folder)
    (folder / "options.yaml").write_text(yaml.safe_dump(_options(conf), sort_keys=False))
    for command in MAKE.values():
        _run(folder, command)
    _run(folder, INTERRUPTED, before=_terminate_in_time, expected=128 + signal.SIGTERM)
    for name, command in ANSWERS.items():
        _run(folder, f"{command} output=expected/{name}.jsonl")
    for name in ("cache", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for file in [*folder.rglob("*.png"), *folder.rglob("step-*.ckpt")]:
        if file.parent.parent.name not in {"chars", "interrupted"}:
            file.unlink()


if __name__ == "__main__":
    record(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
