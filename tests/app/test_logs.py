"""The log file of a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2_lightning.app.output.logs import log_to_file, stop_logging_to

LOGGER = logging.getLogger("gpt2_lightning")


@pytest.fixture(autouse=True)
def only_the_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(logging.NOTSET)


def test_messages_are_appended_with_their_time(tmp_path: Path) -> None:
    file = tmp_path / "train.log"
    file.write_text("before\n", encoding="utf-8")
    handler = log_to_file(file)
    LOGGER.info("step %d of %d", 10, 40)
    assert re.fullmatch(r"before\n[\d-]{10} [\d:,]+ step 10 of 40\n", file.read_text(encoding="utf-8"))
    stop_logging_to(handler)
    LOGGER.info("nobody hears this")
    assert "nobody" not in file.read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_ends_the_log_with_one_message_and_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    handler = log_to_file(Path("/dev/full"))
    for number in range(3):
        LOGGER.info("line %d", number)
    stop_logging_to(handler)
    assert capsys.readouterr().err == "/dev/full cannot be written: No space left on device; the log ends here\n"
