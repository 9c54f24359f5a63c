"""The tool for fault injection finds planted faults."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import table
from tests.soak.disturbed import _STARTING
from tests.soak.faults import Extent, Tools, choose
from tests.soak.outcomes import collect, compare
from tests.soak.scenarios import SCENARIOS
from tests.soak.shim import CONTROL, Action, Count, Operation, Strike, compile_shim

ROWS = "step,train/loss,tokens_per_second\n5,4.0,{0}\n10,3.0,{0}\n"
WRITING = """
import os, sys, time
for number in range(4):
    with open(f"{number}.part", "wb", buffering=0) as file:
        print(file.write(b"12345678"))
    os.replace(f"{number}.part", f"{number}.txt")
here, there = os.pipe()
os.write(there, b"not a file")
print(time.time())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = compile_shim(tmp_path_factory.mktemp("shim"))
    if found is None:
        pytest.skip("no C compiler, or no Linux")
    return found


def disturbed(library: Path, folder: Path, strike: Strike) -> tuple[subprocess.CompletedProcess[str], Count]:
    """A program that writes four files in a folder, under the shim."""
    control, place = folder / "control", folder / "work"
    place.mkdir()
    strike.write(control, place)
    environment = {"LD_PRELOAD": str(library), CONTROL: str(control), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", "-c", WRITING]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
    return done, Count.read(control)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "work").iterdir())


def test_the_shim_counts_the_calls_of_a_folder(library: Path, tmp_path: Path) -> None:
    done, count = disturbed(library, tmp_path, Strike())
    assert done.returncode == 0, done.stderr
    assert (sum(count.calls.values()), count.struck) == (4 * 3, 0)  # create, write, rename


def test_a_signal_at_a_rename_leaves_the_temporary_file(library: Path, tmp_path: Path) -> None:
    strike = Strike(Action.SIGNAL, 2, Operation.RENAME, signal=signal.SIGKILL)
    done, count = disturbed(library, tmp_path, strike)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == ["0.txt", "1.part"]
    assert count.place.endswith("1.txt")


def test_a_torn_write_leaves_half_of_it(library: Path, tmp_path: Path) -> None:
    done, _ = disturbed(library, tmp_path, Strike(Action.TORN, 3, Operation.WRITE, signal=signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "work" / "2.part").read_bytes() == b"1234"


def test_a_full_disk_stays_full(library: Path, tmp_path: Path) -> None:
    strike = Strike(Action.ERROR_FROM_THERE, 2, Operation.WRITE, error=errno.ENOSPC)
    done, count = disturbed(library, tmp_path, strike)
    assert "No space left on device" in done.stderr
    assert (names(tmp_path), count.struck) == (["0.txt", "1.part"], 1)


def test_short_writes_tell_their_length(library: Path, tmp_path: Path) -> None:
    done, _ = disturbed(library, tmp_path, Strike(Action.SHORT_WRITES, 2, Operation.WRITE))
    assert done.stdout.split()[:4] == ["8", "4", "4", "4"]


def test_the_clock_jumps(library: Path, tmp_path: Path) -> None:
    done, _ = disturbed(library, tmp_path, Strike(clock_offset=-86_400))
    written = (tmp_path / "work" / "0.txt").stat().st_mtime
    assert float(done.stdout.split()[-1]) == pytest.approx(written - 86_400, abs=60)


def test_a_seed_chooses_the_same_faults_again() -> None:
    tools = Tools(Path("shim.so"), strace=True)
    chosen = [
        [
            choose(random.Random(f"{seed}"), scenario, Extent(3.0, {Operation.WRITE: 100}), tools)
            for scenario in SCENARIOS
        ]
        for seed in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (ROWS.format(9) + "10,3.0,9\n", "rows"),
        (ROWS.format(9).replace("10,3.0,9\n", ""), "rows"),
        (ROWS.format(9).replace("3.0", "3.5"), "rows"),
        (None, "unequal"),
        (ROWS.format(9), None),
    ],
    ids=["doubled row", "lost row", "other row", "lost file", "other speed"],
)
def test_a_planted_difference_is_found(tmp_path: Path, planted: str | None, kind: str | None) -> None:
    for name, text in (("expected", ROWS.format(1)), ("found", planted)):
        (tmp_path / name / "run").mkdir(parents=True)
        if text is not None:
            (tmp_path / name / "run" / "metrics.csv").write_text(text, encoding="utf-8")
    found = compare(collect(tmp_path / "expected", "run"), collect(tmp_path / "found", "run"))
    assert [violation.kind for violation in found] == ([] if kind is None else [kind])


def test_the_table_counts_a_violation_for_the_last_fault() -> None:
    faults = [{"kind": kind, "struck": struck} for kind, struck in (("EIO", True), ("SIGKILL", True), ("clock", False))]
    lost = {"fault": "SIGKILL", "kind": "rows", "text": "1 lost"}
    records = [
        {"scenario": "train", "starts": 3, "faults": faults, "violations": [lost]},
        {"scenario": "train", "starts": 2, "faults": faults[:1], "violations": []},
    ]
    text = table.markdown(records, seed=3, minutes=60)
    assert "2 disturbed runs, 5 starts, 3 faults that struck; 1 runs with a broken promise" in text
    assert "| EIO | 2 | 2 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| SIGKILL | 1 | 0 | 0 | 1 | 0 | 0 | 0 | 0 |" in text
    assert "| train | 3 | 2 | 0 | 1 | 0 | 0 | 0 | 0 |" in text


@pytest.mark.parametrize(
    ("file", "is_starting"), [("/x/gpt2_lightning/__main__.py", True), ("/x/gpt2_lightning/app/main.py", False)]
)
def test_traces_count_from_the_first_import_of_a_program(file: str, is_starting: bool) -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "<frozen runpy>", line 198, in _run_module_as_main\n'
        '  File "/x/gpt2_lightning/__main__.py", line 5, in <module>\n    import something\n'
        f'  File "{file}", line 3, in <module>\n    import json\n'
        '  File "/lib/python3.11/json/__init__.py", line 106, in <module>\n    from .decoder import JSONDecoder\n'
        "KeyboardInterrupt\n"
    )
    assert bool(_STARTING.search(trace)) == is_starting
