"""A reader who has seen enough is no fault, whoever writes."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
from rich import get_console
from gpt2_lightning.app.output.terminal import until_the_reader_stops
with until_the_reader_stops():
    for _ in range(100_000):
        {write}("many words " * 10)
Path(sys.argv[1]).write_text("went on")
"""


@pytest.mark.parametrize("write", ["print", "get_console().print"])
def test_the_program_goes_on_when_nobody_reads(write: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("after") / "it.txt"
    program = [sys.executable, "-c", PROGRAM.format(write=write), str(file)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("many words")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert file.read_text() == "went on"


def test_other_exits_are_let_through() -> None:
    from gpt2_lightning.app.output.terminal import until_the_reader_stops

    with pytest.raises(SystemExit) as stop, until_the_reader_stops():
        sys.exit(3)
    assert stop.value.code == 3
