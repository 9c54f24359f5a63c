from pathlib import Path

import pytest

from gpt2_lightning.checkpoints import folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with checkpoints, strangers among them."""
    names = ["step-000500.ckpt", "step-001000.ckpt", "step-1000000.ckpt", "step-999999.ckpt"]
    strangers = [".step-2000000.ckpt.77.tmp", "step-final.ckpt", "step-3000000.ckpt.bak", "old-step-4000000.ckpt"]
    (tmp_path / folder.FOLDER).mkdir()
    for name in names + strangers:
        (tmp_path / folder.FOLDER / name).touch()
    return tmp_path


@pytest.mark.parametrize("step", [0, 1, 500, 999_999, 1_000_000, 12_345_678])
def test_a_step_survives_its_file_name(step: int) -> None:
    assert folder.step_of(Path("run") / folder.step_name(step)) == step


def test_names_of_usual_steps_sort_as_text() -> None:
    names = [folder.step_name(step) for step in (0, 7, 90, 2000, 999_999)]
    assert names == sorted(names)
    assert names[3] == "step-002000.ckpt"


@pytest.mark.parametrize(
    "name", ["best.ckpt", "step-.ckpt", "step-12.ckpt.tmp", "a-step-12.ckpt", "epoch=3-step=9.ckpt"]
)
def test_other_names_have_no_step(name: str) -> None:
    assert folder.step_of(Path(name)) is None


def test_checkpoints_come_in_the_order_of_their_numbers(run: Path) -> None:
    assert [folder.step_of(file) for file in folder.by_step(run)] == [500, 1000, 999_999, 1_000_000]


def test_the_newest_has_the_highest_step(run: Path) -> None:
    assert folder.newest(run) == run / "checkpoints" / "step-1000000.ckpt"


def test_the_best_stands_in_for_nothing_and_the_newest_for_it(run: Path) -> None:
    assert folder.best(run) == folder.newest(run)
    (run / "checkpoints" / "best.ckpt").touch()
    assert folder.best(run) == run / "checkpoints" / "best.ckpt"
    assert folder.newest(run) == run / "checkpoints" / "step-1000000.ckpt"


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert folder.newest(tmp_path) is None
    assert folder.best(tmp_path) is None
    assert folder.by_step(tmp_path) == []


def test_a_checkpoint_knows_its_run() -> None:
    assert folder.run_of(Path("runs/a/checkpoints/best.ckpt")) == Path("runs/a")
    assert folder.run_of(Path("downloads/best.ckpt")) is None
