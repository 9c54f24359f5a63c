import csv
import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.loggers.csv_logger import CSVLogger


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(run_dir: Path, name: str) -> list[str]:
    return [row[name] for row in rows_of(run_dir)]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that was killed after step 40."""
    logger = CSVLogger(tmp_path)
    for step in (10, 20, 30, 40):
        logger.log_metrics({"train/loss": 5 - step / 100, "lr": 1e-3}, step)
    logger.log_metrics({"val/loss": 4.5}, 40)
    return tmp_path


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    for count in (1, 2, 3):
        logger.log_metrics({"train/loss": 0.5 * count}, count)
        assert column(tmp_path, "train/loss") == [str(0.5 * i) for i in range(1, count + 1)]


def test_every_line_has_the_columns_of_the_header(killed: Path) -> None:
    header, *lines = (killed / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert header == "step,epoch,tokens,train/loss,val/loss,lr"
    assert lines[0] == "10,,,4.9,,0.001"
    assert lines[-1] == "40,,,,4.5,"
    assert {line.count(",") for line in lines} == {header.count(",")}


def test_floats_keep_every_digit(tmp_path: Path) -> None:
    CSVLogger(tmp_path).log_metrics({"train/loss": 0.1 + 0.2}, 1)
    assert float(rows_of(tmp_path)[0]["train/loss"]) == 0.1 + 0.2


def test_a_new_key_adds_a_column_and_keeps_the_rows(killed: Path) -> None:
    logger = CSVLogger(killed)
    logger.log_metrics({"train/loss": 4.4}, 50)
    logger.log_metrics({"train/loss": 4.3, "grad_norm": 0.7}, 60)
    logger.log_metrics({"train/loss": 4.2}, 70)
    assert column(killed, "grad_norm") == ["", "", "", "", "", "", "0.7", ""]
    assert column(killed, "train/loss") == ["4.9", "4.8", "4.7", "4.6", "", "4.4", "4.3", "4.2"]


def test_a_resumed_run_drops_the_rows_from_its_first_step_on(killed: Path) -> None:
    logger = CSVLogger(killed)
    logger.log_metrics({"train/loss": 1.0}, 30)
    logger.log_metrics({"train/loss": 0.5}, 40)
    assert column(killed, "step") == ["10", "20", "30", "40"]
    assert column(killed, "train/loss") == ["4.9", "4.8", "1.0", "0.5"]


def test_both_rows_of_a_step_stay(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 2.0}, 20)
    logger.log_metrics({"val/loss": 3.0}, 20)
    assert column(tmp_path, "step") == ["20", "20"]


def test_a_resume_before_all_rows_drops_all(killed: Path) -> None:
    CSVLogger(killed).log_metrics({"train/loss": 1.0}, 5)
    assert column(killed, "step") == ["5"]


def test_a_resume_keeps_columns_that_it_does_not_log(killed: Path) -> None:
    CSVLogger(killed).log_metrics({"train/loss": 1.0}, 30)
    assert column(killed, "lr") == ["0.001", "0.001", ""]


@pytest.mark.parametrize("cut_off", ["5", "50", "50,,,4.", "50,,,4.5,,0.00", "\x00\x00\x00"])
def test_a_row_that_was_cut_off_is_dropped(killed: Path, cut_off: str) -> None:
    file = killed / "metrics.csv"
    file.write_text(file.read_text(encoding="utf-8") + cut_off, encoding="utf-8")
    CSVLogger(killed).log_metrics({"train/loss": 4.5, "lr": 1e-3}, 50)
    assert column(killed, "step") == ["10", "20", "30", "40", "40", "50"]
    assert column(killed, "train/loss")[-1] == "4.5"


def test_a_file_that_lost_its_rows_is_begun_again(tmp_path: Path) -> None:
    for content in ("", "step,ep", "step,epoch\n"):
        (tmp_path / "metrics.csv").write_text(content, encoding="utf-8")
        CSVLogger(tmp_path).log_metrics({"train/loss": 4.5}, 50)
        assert [(row["step"], row["train/loss"]) for row in rows_of(tmp_path)] == [("50", "4.5")]


def test_no_temporary_file_stays(killed: Path) -> None:
    CSVLogger(killed).log_metrics({"x": 1.0}, 50)
    assert [file.name for file in killed.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("part", ["", "2,1.0,3"], ids=["nothing", "half a row"])
def test_rows_that_could_not_be_written_are_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    rows = [
        (1, {"train/loss": 4.0}),
        (2, {"train/loss": 3.0}),
        (2, {"val/loss": 3.5}),
        (3, {"train/loss": 2.0}),
        (4, {}),
    ]
    (tmp_path / "whole").mkdir()
    logger, undisturbed = CSVLogger(tmp_path), CSVLogger(tmp_path / "whole")
    for step, values in rows:
        undisturbed.log_metrics(values, step)

    def fail(writer: Any, row: object) -> NoReturn:
        with (tmp_path / "metrics.csv").open("a") as file:
            file.write(part)
        raise OSError(errno.EIO, "Input/output error")

    for number, (step, values) in enumerate(rows):
        with monkeypatch.context() as patch:
            if number in (2, 3):
                patch.setattr(csv.DictWriter, "writerow", fail)
                patch.setattr(csv.DictWriter, "writerows", fail)
            logger.log_metrics(values, step)
    assert caplog.text.count("metrics.csv cannot be written: Input/output error") == 1
    assert (tmp_path / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


def test_rows_that_are_lost_at_the_end_of_a_run_are_counted(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "gone")
    logger.log_metrics({"train/loss": 1.0}, 1)
    with pytest.raises(UserError, match=r"metrics\.csv cannot be written: .*; 1 rows are lost"):
        logger.finalize("success")
    (tmp_path / "gone").mkdir()
    logger.finalize("success")
    assert column(tmp_path / "gone", "train/loss") == ["1.0"]
