"""Where the parts come from, and how a table is cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.tables import LabeledText, LabeledTexts
from gpt2_lightning.data.tables.splits import balanced, cut
from gpt2_lightning.errors import UserError

EXPECTED_TEST = [4, 7, 12, 17, 18]
"""Of 23 rows with seed 7. It must not change: a reported figure belongs to these rows."""


def write(file: Path, n_rows: int, prefix: str = "row") -> None:
    lines = [f"{prefix} {i},{'odd' if i % 2 else 'even'}" for i in range(n_rows)]
    file.write_text("\n".join(["text,label", *lines]), encoding="utf-8")


def test_every_row_is_in_one_part_and_the_order_of_the_file_stays() -> None:
    splits = cut(list(range(1009)), 0.1, 0.2, seed=3)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (706, 100, 203)
    assert sorted(splits.train + splits.val + splits.test) == list(range(1009))
    for part in (splits.train, splits.val, splits.test):
        assert part == sorted(part)


def test_the_cut_is_the_same_everywhere() -> None:
    assert cut(list(range(23)), 0.1, 0.2, seed=7).test == EXPECTED_TEST
    assert cut(list(range(23)), 0.1, 0.2, seed=8).test != EXPECTED_TEST


def test_the_cut_spreads_over_the_whole_table() -> None:
    """Each tenth of the table gives about a tenth of the test rows: 200 each, with a deviation of 13."""
    tenths = Counter(row // 1000 for row in cut(list(range(10_000)), 0.1, 0.2, seed=0).test)
    assert all(140 <= tenths[i] <= 260 for i in range(10))


@pytest.mark.parametrize(
    ("n_rows", "val", "test", "sizes"),
    [
        (1494, 0.1, 0.2, (1045, 149, 300)),
        (1100, 0.05, 0.1, (935, 55, 110)),
        (10, 0.1, 0, (9, 1, 0)),
        (7, 0.5, 0, (3, 4, 0)),
    ],
)
def test_the_sizes_of_the_parts_have_no_rounding_error(
    n_rows: int, val: float, test: float, sizes: tuple[int, int, int]
) -> None:
    splits = cut([None] * n_rows, val, test, seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == sizes


def test_strata_are_cut_one_by_one() -> None:
    keys = ["rare"] * 20 + ["often"] * 180
    splits = cut(keys, 0.1, 0.2, seed=0, strata=keys)
    assert Counter(splits.train) == {"rare": 14, "often": 126}
    assert Counter(splits.val) == {"rare": 2, "often": 18}
    assert Counter(splits.test) == {"rare": 4, "often": 36}
    by_chance = {Counter(cut(keys, 0.1, 0.2, seed).test)["rare"] for seed in range(5)}
    assert len(by_chance) > 1


def test_balance_keeps_as_many_of_each_class_as_the_rarest_has() -> None:
    rows = list(range(97))
    keys = ["a" if row % 5 else "b" for row in rows]
    kept = balanced(rows, keys, seed=0)
    assert kept == sorted(set(kept))
    assert Counter(keys[row] for row in kept) == {"a": 20, "b": 20}
    assert kept != balanced(rows, keys, seed=1)


def test_parts_with_files_of_their_own_stay_whole(tmp_path: Path) -> None:
    for name, n_rows in (("train", 11), ("dev", 5), ("test", 3)):
        write(tmp_path / f"{name}.csv", n_rows, name)
    splits = LabeledTexts(path=str(tmp_path), train="train.csv", val="dev.csv", test="test.csv").read()
    assert splits.train == [LabeledText(f"train {i}", "odd" if i % 2 else "even") for i in range(11)]
    assert [row.text for row in splits.val] == [f"dev {i}" for i in range(5)]
    assert [row.text for row in splits.test] == [f"test {i}" for i in range(3)]


def test_a_part_without_a_file_is_cut_from_what_trains(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", 100, "train")
    write(tmp_path / "test.csv", 7, "test")
    splits = LabeledTexts(path=str(tmp_path), train="train.csv", val=0.2, test="test.csv").read()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (80, 20, 7)
    assert {row.text for row in splits.train + splits.val} == {f"train {i}" for i in range(100)}


def test_a_folder_of_one_file_needs_no_name(tmp_path: Path) -> None:
    write(tmp_path / "only.csv", 20)
    splits = LabeledTexts(path=str(tmp_path)).read()
    assert len(splits.train + splits.val + splits.test) == 20


NOT_THERE: dict[str, tuple[dict[str, Any], str]] = {
    "which": ({"path": "."}, r"data.train: .* is no single file: it has 'a.csv', 'b.csv'; say which one trains"),
    "name": ({"path": ".", "train": "a.csv", "test": "c.csv"}, r"data.test: .* has no file c.csv; .* did you mean"),
    "file": ({"path": "a.csv", "train": "a.csv"}, r"a.csv is a file; name the folder of a.csv"),
}


@pytest.mark.parametrize("case", NOT_THERE)
def test_a_part_that_is_not_there_is_an_error_that_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    write(tmp_path / "a.csv", 10)
    write(tmp_path / "b.csv", 10)
    monkeypatch.chdir(tmp_path)
    settings, message = NOT_THERE[case]
    with pytest.raises(UserError, match=message):
        LabeledTexts(**settings).read()


def test_an_empty_part_is_an_error_with_the_number_of_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 5)
    with pytest.raises(UserError, match=r"data.val: .*empty.* 5 .*rows .*val=0.1"):
        LabeledTexts(path=str(tmp_path / "a.csv")).read()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val": 0.0}, r"val: 0.0 is out of range, above 0 and below 1 is allowed"),
        ({"val": 1}, r"val: 1 is out of range"),
        ({"test": -0.1}, r"test: -0.1 is out of range"),
        ({"val": 0.5, "test": 0.5}, r"test: 0.5 and val=0.5 leave nothing to train on"),
        ({"val": "dev.csv"}, r"train: missing; where val or test names"),
        ({"train": "a.csv", "val": "b.csv", "test": "a.csv"}, r"test: a.csv is what trains"),
        ({"split_seed": -1}, r"split_seed: -1 is out of range"),
        ({"delimiter": "ab"}, r"delimiter: 'ab' does not fit"),
        ({"delimiter": '"'}, r"delimiter: '\"' does not fit; it must differ from quote"),
        ({"quote": ""}, r"quote: '' does not fit"),
        ({"columns": ["a", "a"]}, r"columns: \['a', 'a'\] does not fit; it must be different names"),
        ({"columns": []}, r"columns: \[\] does not fit"),
        ({"revision": "abc"}, r"revision: is of no use with files; leave it out"),
        ({"path": "hf:x", "format": "csv"}, r"format: is of no use with a data set; leave it out"),
        ({"val": 2.0, "split_seed": -1}, r"val: 2.0 .*\nsplit_seed: -1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabeledTexts(**{"path": "a.csv", **settings})
