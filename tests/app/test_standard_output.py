"""Programs that write files continue when their output is closed or its disk is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


GUARDED = """
import sys
from pathlib import Path
from gpt2_lightning.app.output.streams import guard_output
guard_output(required=len(sys.argv) > 2)
from rich import get_console
for _ in range(1000):
    print("many words " * 10)
    get_console().print("many words " * 10)
    print("many words " * 10, file=sys.stderr)
Path(sys.argv[1]).write_text("went on")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_program_that_writes_files_goes_on_without_output(tmp_path: Path, unbuffered: str, closed: bool) -> None:
    reader, output = os.pipe() if closed else (os.open(os.devnull, os.O_RDONLY), os.open("/dev/full", os.O_WRONLY))
    os.close(reader)
    command = [sys.executable, "-c", GUARDED, str(tmp_path / "it.txt")]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    assert subprocess.run(command, stdout=output, stderr=output, env=environment).returncode == 0
    os.close(output)
    assert (tmp_path / "it.txt").read_text() == "went on"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_results_that_cannot_be_printed_are_an_error(tmp_path: Path, unbuffered: str) -> None:
    command = [sys.executable, "-c", GUARDED, str(tmp_path / "it.txt"), "required"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        program = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert program.returncode == 1
    assert program.stderr.endswith("No space left on device: 'standard output'\n")
    assert not (tmp_path / "it.txt").exists()


@pytest.mark.parametrize("flags", [["--info", "all"], ["--info", "defaults-tree"], ["--cfg", "job"], ["--help"]])
def test_what_a_command_shows_may_be_cut_off_by_its_reader(flags: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    program = [sys.executable, "-m", "gpt2_lightning", "params", *flags]
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_command_shows_is_not_lost_on_a_full_disk_without_a_word() -> None:
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, "-m", "gpt2_lightning", "params", "--info", "defaults-tree"]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
