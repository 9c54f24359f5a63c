"""Every wrong command of `bad_input.txt`: exit code 2, a message that names the fault, nothing written."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.bad_input_files import write_all
from tests.app.tiny_runs import TINY
from tests.outcomes import Outcome, refused

TRAINED = {"train": TINY, "sweep": TINY, "finetune": ["model=tiny", "batch_size=4", "trainer=cpu"]}
"""Settings before those of a case, so that a case that is not refused ends soon."""


def cases() -> list[tuple[str, str, str]]:
    lines = Path(__file__).with_name("bad_input.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [(verb, arguments, fragments) for verb, arguments, fragments in split]


@pytest.fixture(scope="module")
def prepared(tiny_run: Path, small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input")
    write_all(folder, tiny_run, small_text)
    return folder


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*") if not path.is_dir()
    } | {path: (0, 0) for path in folder.rglob("*") if path.is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "arguments", "fragments"), cases())
def test_wrong_command(
    run_verb: Callable[..., Outcome],
    prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    arguments: str,
    fragments: str,
) -> None:
    monkeypatch.chdir(prepared)
    before = contents(prepared)
    refused(run_verb(verb, *TRAINED.get(verb, []), *shlex.split(arguments)), *fragments.split("; "))
    assert contents(prepared) == before
