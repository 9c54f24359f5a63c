"""Runs beside each other: order, differing settings, the table, and the panels."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2_lightning.inspection.curves.panels import known_columns, make_panels
from gpt2_lightning.inspection.curves.runs import Run, differing_settings, read_runs
from gpt2_lightning.inspection.curves.table import group_labels, labels, tabulate
from tests.inspection.metrics_of_runs import USUAL, write_run

ADAMW = {"_target_": "gpt2_lightning.training.optimizers.AdamW", "lr": 0.001}
BETTER = "10,0.1,1000,3.0,,0.001,100\n20,0.2,2000,,2.75,,"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three runs: a usual one, a better one, and one that never validated and then diverged."""
    common = {"seed": 1, "data": {"path": "a"}}
    folders = [
        write_run(tmp_path / "char" / "1", USUAL, {**common, "optimizer": ADAMW, "run_dir": "1"}),
        write_run(tmp_path / "char" / "2", BETTER, {**common, "optimizer": {**ADAMW, "lr": 0.003}, "run_dir": "2"}),
        write_run(
            tmp_path / "tiny" / "1",
            "10,0.1,1000,4.0,,0.001,100\n20,0.2,2000,nan,,0.001,100",
            {**common, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.001, "momentum": None}},
        ),
    ]
    return read_runs(folders)


def test_the_best_run_is_first_and_one_without_validation_last(runs: list[Run]) -> None:
    assert [run.name for run in runs] == ["char/2", "char/1", "tiny/1"]
    assert [run.best for run in runs] == [(2.75, 20), (3.25, 40), None]


def test_remarks_tell_what_is_missing_and_what_broke(runs: list[Run], tmp_path: Path) -> None:
    assert [run.remarks for run in runs] == [[], [], ["never validated", "train/loss is no number from step 20"]]
    empty = write_run(tmp_path / "empty", "")
    broken = write_run(tmp_path / "broken", USUAL)
    (broken / "config.yaml").write_text("{: no")
    assert {run.name: run.remarks for run in read_runs([empty, broken])} == {
        "empty": ["no metrics"],
        "broken": ["settings unknown"],
    }
    damaged = write_run(tmp_path / "damaged", USUAL + "x,y\n50,0.5", settings={"seed": 1}, end="")
    assert read_runs([damaged])[0].remarks == ["1 line unreadable", "cut off"]


def test_a_best_loss_is_never_one_that_is_no_number(tmp_path: Path) -> None:
    rows = "10,0,1,,nan,,\n20,0,1,,3.0,,\n30,0,1,,-inf,,"
    (run,) = read_runs([write_run(tmp_path / "run", rows, {})])
    assert run.best == (3.0, 20)


def test_only_differing_settings_are_named_and_as_short_as_is_clear(runs: list[Run]) -> None:
    assert differing_settings(runs) == {
        "optimizer": ["AdamW", "AdamW", "torch.optim.SGD"],
        "lr": ["0.003", "0.001", "0.001"],
    }, "a setting of one optimizer alone is not a difference beside the optimizers themselves"


def test_names_that_would_be_taken_for_each_other_stay_long(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / str(i), USUAL, {"data": {"path": f"d{i}"}, "tokenizer": {"path": f"t{i}"}}) for i in (1, 2)
    ]
    assert differing_settings(read_runs(folders)) == {"data.path": ["d1", "d2"], "tokenizer.path": ["t1", "t2"]}


def test_the_table_by_hand(runs: list[Run]) -> None:
    table = tabulate(runs)
    first = dict(zip(table.head, table.rows[1].cells, strict=True))
    assert first["best val loss"] == "3.2500"
    assert first["at step"] == "40"
    assert first["last train loss"] == "2.0000"
    assert (first["steps"], first["tokens"], first["training time"]) == ("40", "4,000", "0:00:55")
    assert (first["lr"], first["optimizer"], first["remarks"]) == ("0.001", "AdamW", "")
    assert table.rows[2].cells[:2] == ["", ""]
    assert table.rows[2].values[:2] == [None, None]
    assert dict(zip(table.head, table.is_numeric, strict=True))["tokens"] is True


def test_columns_that_are_empty_in_all_runs_are_left_out(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run", USUAL, {"seed": 1})])
    assert tabulate([run]).head == ["best val loss", "at step", "last train loss", "steps", "tokens", "training time"]


def test_labels_have_the_settings_that_there_is_room_for(runs: list[Run], tmp_path: Path) -> None:
    assert labels(runs)[0] == "char/2: optimizer=AdamW, lr=0.003"
    many = [
        write_run(tmp_path / name, USUAL, {f"a_setting_{i}": f"{name}-{i}" for i in range(9)}) for name in ("x", "y")
    ]
    (label, _) = labels(read_runs(many))
    assert label == "x: a_setting_0=x-0, a_setting_1=x-1, a_setting_2=x-2 …"


def test_a_key_stands_for_training_and_validation(runs: list[Run]) -> None:
    (panel,) = make_panels(runs, ["loss"], "step", 0.0)
    assert [(line.run, line.part) for line in panel.lines] == [
        (0, "train"),
        (0, "val"),
        (1, "train"),
        (1, "val"),
        (2, "train"),
    ]
    assert panel.lines[3].x.tolist() == [20, 40]
    assert panel.lines[3].y.tolist() == [3.5, 3.25]
    assert [line.best for line in panel.lines] == [None, 0, None, 1, None]
    assert panel.label == "loss (nats per token)"


def test_lines_against_tokens_and_time(runs: list[Run]) -> None:
    for x, expected in (("tokens", [2000, 4000]), ("epoch", [0.2, 0.4]), ("time", [15, 55])):
        (panel,) = make_panels(runs[1:2], ["val/loss"], x, 0.0)
        assert panel.lines[0].x.tolist() == expected
    assert panel.x_label == "seconds of training"


def test_long_trainings_are_shown_in_hours(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},0,{i * 3600},4,,,1" for i in (1, 2, 3))
    (panel,) = make_panels(read_runs([write_run(tmp_path / "run", rows)]), ["loss"], "time", 0.0)
    assert panel.lines[0].x.tolist() == [1, 2, 3]
    assert panel.x_label == "hours of training"


def test_validation_and_learning_rate_are_not_smoothed(runs: list[Run]) -> None:
    panels = make_panels(runs[1:2], ["loss", "learning_rate", "throughput"], "step", 0.5)
    smoothed = {(panel.key, line.part): line.smoothed for panel in panels for line in panel.lines}
    assert smoothed["loss", "val"] is None
    assert smoothed["learning_rate", ""] is None
    assert smoothed["loss", "train"].tolist() == pytest.approx(
        [4, (0.5 * 4 + 3) / 1.5, (0.25 * 4 + 0.5 * 3 + 2) / 1.75]
    )
    assert smoothed["throughput", ""] is not None


def test_scores_of_attention_are_not_noisy_and_stay_as_they_are(tmp_path: Path) -> None:
    head = "step,tokens,train/loss,attention/induction/max\n"
    run = write_run(tmp_path / "run", "\n".join(f"{i},{i},{i % 7},{i % 7}" for i in range(100)), head=head)
    panels = make_panels(read_runs([run]), ["loss", "attention/induction/max"], "step", None)
    loss, score = (panel.lines[0] for panel in panels)
    assert loss.smoothed is not None
    assert score.smoothed is None


def test_a_weight_left_alone_suits_each_line(tmp_path: Path) -> None:
    rows = ["\n".join(f"{i},0,{i},{i % 7},,," for i in range(count)) for count in (10, 100)]
    runs = read_runs([write_run(tmp_path / str(len(text)), text) for text in rows])
    short, long = sorted(make_panels(runs, ["loss"], "step", None)[0].lines, key=lambda line: len(line.x))
    assert short.smoothed is None
    assert long.smoothed is not None
    assert long.smoothed[1] == pytest.approx((0.8 * 0 + 1) / 1.8)
    (stated, _) = make_panels(runs, ["loss"], "step", 0.8)[0].lines
    assert stated.smoothed is not None


def test_a_key_that_no_run_has_gives_no_panel(runs: list[Run]) -> None:
    assert [panel.key for panel in make_panels(runs, ["gradient_norm", "loss", "loss"], "step", 0.0)] == ["loss"]
    assert known_columns(runs) == ["epoch", "lr", "tokens", "tokens_per_second", "train/loss", "val/loss"]


def test_long_runs_are_thinned_and_hundreds_still_more(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},0,{i},{i % 7},,," for i in range(2500))
    run = read_runs([write_run(tmp_path / "run", rows)])
    assert len(make_panels(run, ["loss"], "step", 0.9)[0].lines[0].x) == 2000
    lines = make_panels(run * 400, ["loss"], "step", 0.9)[0].lines
    assert {len(line.x) for line in lines} == {500}
    assert {len(line.smoothed) for line in lines if line.smoothed is not None} == {500}


CHAR, BPE = (f"gpt2_lightning.tokenizers.{name}.from_corpus" for name in ("char", "bpe"))


def of_seeds(folder: Path) -> list[Run]:
    """Two runs that differ only by seed, one with another rate, and one that repeats a seed."""
    losses = {"a": (1, 0.1, 3.0), "b": (2, 0.1, 4.0), "c": (1, 0.2, 2.0), "d": (1, 0.1, 9.0)}
    return read_runs(
        [
            write_run(
                folder / name,
                f"10,0,1000,{loss + 1},,,\n20,0,2000,{loss},{loss},,\n{25 if name == 'b' else 30},0,3000,7,8,,",
                {"seed": seed, "lr": lr},
            )
            for name, (seed, lr, loss) in losses.items()
        ]
    )


def test_runs_that_differ_only_by_seed_are_a_group(tmp_path: Path) -> None:
    runs = of_seeds(tmp_path)
    assert [(run.name, run.group) for run in runs] == [("c", 0), ("a", 1), ("b", 1), ("d", 2)], "d repeats a seed"
    table = tabulate(runs)
    cells = [row.cells[table.head.index("mean over seeds")] for row in table.rows]
    assert cells == ["", "3.5000 ± 0.7071 (2)", "3.5000 ± 0.7071 (2)", ""], "of 3 and 4, with divisor n - 1"
    assert group_labels(runs) == ["c: lr=0.2", "2 seeds: lr=0.1", "d: lr=0.1"]


def test_the_mean_of_a_group_is_at_the_steps_that_all_have_logged(tmp_path: Path) -> None:
    (panel,) = make_panels(of_seeds(tmp_path), ["loss"], "step", 0.0)
    lines = {(line.group, line.role, line.part): line for line in panel.lines}
    assert len(panel.lines) == 2 * 4 + 2
    assert lines[1, "mean", "train"].x.tolist() == [10, 20]
    assert lines[1, "mean", "train"].y.tolist() == [4.5, 3.5]
    assert (lines[1, "mean", "val"].x.tolist(), lines[1, "mean", "val"].best) == ([20], 0)
    assert lines[1, "seed", "val"].best is None
    assert lines[0, "run", "val"].best == 0


def test_losses_are_ranked_and_drawn_within_their_kind(tmp_path: Path) -> None:
    """A classifier's loss of 0.5 is no better than a language model's loss of 3."""
    label_head = "step,epoch,tokens,train/loss,val/loss,lr,tokens_per_second,val/accuracy\n"
    runs = read_runs(
        [
            write_run(tmp_path / "char", "10,0,1,3,3,,", {"tokenizer": {"_target_": CHAR}}),
            write_run(tmp_path / "bpe", "10,0,1,5,5,,", {"tokenizer": {"_target_": BPE}}),
            write_run(tmp_path / "spam", "10,0,1,0.5,0.5,,,0.9", {"tokenizer": {"_target_": BPE}}, label_head),
        ]
    )
    assert [(run.name, run.kind) for run in runs] == [
        ("spam", "classify (single)"),
        ("bpe", "text (bpe)"),
        ("char", "text (char)"),
    ]
    labels = [panel.label for panel in make_panels(runs, ["loss", "tokens_per_second"], "step", 0.0)]
    assert labels == [
        "loss, classify (single)",
        "loss (nats per token), text (bpe)",
        "loss (nats per token), text (char)",
    ]
    table = tabulate(runs)
    assert [row.cells[table.head.index("tokenizer")] for row in table.rows] == ["bpe", "bpe", "char"]


def test_where_a_search_keeps_its_state_is_no_setting(tmp_path: Path) -> None:
    folders = [
        write_run(
            tmp_path / str(i),
            USUAL,
            {"lr": i, "callbacks": {"pruning": {"storage": f"sqlite:{i}", "study": f"s{i}", "trial": i}}},
        )
        for i in (1, 2)
    ]
    assert list(differing_settings(read_runs(folders))) == ["lr"]
