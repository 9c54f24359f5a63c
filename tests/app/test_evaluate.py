"""The verb `evaluate`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from omegaconf import OmegaConf

import gpt2_lightning
from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Item, ItemRecord, Subject
from gpt2_lightning.evaluation.benchmarks.configured import benchmark, names, stated
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.app.compositions import composed
from tests.app.letter_benchmark import SECONDS, YAML, Letters
from tests.app.made_checkpoints import save_base
from tests.huggingface.networks import lively
from tests.outcomes import Outcome, refused
from tests.programs import running

Run = Callable[..., Outcome]
LINES = 300


@pytest.fixture
def letters(workplace: Path, small_text: Path) -> list[str]:
    """Settings with which the benchmark `letters` can be measured."""
    text = small_text.read_text().replace("\n", " ")
    (workplace / "data" / "letters").mkdir(parents=True)
    lines = [text[7 * i : 7 * i + 5 + i % 11] for i in range(LINES)]
    (workplace / "data" / "letters" / "letters.txt").write_text("\n".join(lines))
    (workplace / "conf" / "benchmarks").mkdir(parents=True)
    (workplace / "conf" / "benchmarks" / "letters.yaml").write_text(YAML)
    return ["--config-dir", "conf", "trusted_modules=[tests]", "data_dir=data", "benchmarks=letters"]


def refuse_to_measure(*arguments: object) -> NoReturn:
    raise UserError("measured again")


def test_a_benchmark_of_ones_own_is_measured(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path
) -> None:
    outcome = run_verb("evaluate", *letters, f"checkpoint={tiny_run}", "output=out")
    assert outcome.code == 0, outcome.err
    assert "letters" in outcome.out
    assert "it is made up" in outcome.out
    assert "log_likelihood" in (workplace / "out" / "results.json").read_text()


def test_python_measures_as_the_command(letters: list[str], tiny_run: Path) -> None:
    model = gpt2_lightning.load(tiny_run)
    results = model.evaluate({"mine": Letters()}, data_dir="data")
    assert results["mine"].n_items == LINES
    assert results["mine"]["worst"].value < results["mine"]["log_likelihood"].value < 0


def test_a_repeated_command_measures_nothing_again(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", *letters, f"checkpoint={tiny_run}", "output=out"]
    first = run_verb(*command)
    monkeypatch.setattr(Letters, "records", refuse_to_measure)
    assert run_verb(*command).out == first.out
    refused(run_verb(*command, "overwrite=true"), "measured again")


def test_int8_weights_have_results_of_their_own(run_verb: Run, letters: list[str], tiny_run: Path) -> None:
    command = ["evaluate", *letters, f"checkpoint={tiny_run}"]
    first, int8 = (run_verb(*command, *more) for more in (("output=out",), ("output=int8", "quantize=int8")))
    assert first.code == int8.code == 0, int8.err
    found, expected = (json.loads(Path(folder, "results.json").read_text()) for folder in ("int8", "out"))
    assert found["model"]["parameters"] == expected["model"]["parameters"]
    assert found["model"]["weights"] != expected["model"]["weights"]
    refused(
        run_verb(*command, "output=out", "quantize=int8"),
        "letters.jsonl has results that differ",
        "'float32' there, 'int8' now",
    )


def test_results_with_other_settings_are_not_replaced_unasked(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path
) -> None:
    command = ["evaluate", *letters, f"checkpoint={tiny_run}", "output=out"]
    assert run_verb(*command).code == 0
    refused(run_verb(*command, "limit=20"), "letters.jsonl has results that differ", "overwrite=true", "limit: None")
    assert run_verb(*command, "limit=20", "overwrite=true").code == 0
    assert len((workplace / "out" / "items" / "letters.jsonl").read_text().splitlines()) == 21


def test_two_models_are_compared_on_the_same_items(run_verb: Run, letters: list[str], workplace: Path) -> None:
    save_base(workplace / "this.ckpt")
    other = lively()
    torch.nn.init.normal_(other.wte.weight)
    save_base(workplace / "other.ckpt", other)
    (workplace / "data" / "letters" / "letters.txt").write_text("abc\nbcde\ncdef\nuvab\n")
    command = ["evaluate", *letters, "checkpoint=this.ckpt"]
    outcome = run_verb(*command, "compare_with=other.ckpt")
    assert outcome.code == 0, outcome.err
    assert "compared with other.ckpt" in outcome.out
    assert (workplace / "evaluation" / "this" / "comparison.html").is_file()
    assert (workplace / "evaluation" / "other" / "results.json").is_file()
    refused(run_verb(*command, "compare_with=this.ckpt"), "compare_with: this.ckpt is the checkpoint itself")


def test_ctrl_c_keeps_the_chunks_that_are_done(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, count = Letters.records, 0

    def interrupted(self: Letters, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        return whole(self, subject, items)

    command = ["evaluate", *letters, f"checkpoint={tiny_run}", "output=out"]
    with monkeypatch.context() as patch:
        patch.setattr(Letters, "records", interrupted)
        outcome = run_verb(*command)
    assert outcome.code == 130
    assert "the same command continues" in outcome.err
    assert (workplace / "out" / "items" / "letters.partial.jsonl").read_bytes().count(b"\n") == 2
    assert not (workplace / "out" / "results.json").exists()
    assert run_verb(*command).code == 0


@pytest.mark.slow
def test_an_evaluation_that_was_killed_twice_gives_the_same_files(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path
) -> None:
    command = [*letters, f"checkpoint={tiny_run}"]
    partial = workplace / "killed" / "items" / "letters.partial.jsonl"

    def chunks() -> int:
        return partial.read_bytes().count(b"\n") - 1 if partial.is_file() else 0

    for _ in range(2):
        done, environment = chunks(), {**os.environ, SECONDS: "0.05"}
        killed = ["output=killed", *command]
        with running("evaluate", *killed, output=workplace / "said.txt", environment=environment) as program:
            program.wait_until(lambda: chunks() > done, timeout=120)  # noqa: B023  # called within the loop
            program.kill()
    assert run_verb("evaluate", *command, "output=killed").code == 0
    assert run_verb("evaluate", *command, "output=whole").code == 0
    for file in ("results.json", "results.md", "results.png", "items/letters.jsonl"):
        assert (workplace / "killed" / file).read_bytes() == (workplace / "whole" / file).read_bytes()
    assert not partial.exists()


def test_the_benchmarks_are_listed_where_none_is_named(run_verb: Run, tiny_run: Path) -> None:
    for arguments in ([], ["benchmarks=[]"]):
        outcome = run_verb("evaluate", f"checkpoint={tiny_run}", *arguments)
        refused(outcome, "benchmarks: name one or more", *names())


def test_absent_data_is_found_before_the_first_benchmark_is_measured(
    run_verb: Run, letters: list[str], tiny_run: Path, workplace: Path
) -> None:
    (workplace / "conf" / "benchmarks" / "others.yaml").write_text(
        YAML.replace("letters:", "others:") + "  file: others.txt\n"
    )
    outcome = run_verb("evaluate", *letters, "benchmarks=[letters,others]", f"checkpoint={tiny_run}", "output=out")
    refused(outcome, "others: there is no data/letters/others.txt")
    assert not (workplace / "out").exists()


@pytest.mark.parametrize("name", names())
def test_a_benchmark_is_the_same_in_python_and_on_the_command_line(name: str) -> None:
    assert OmegaConf.to_container(composed("evaluate", f"benchmarks={name}").benchmarks[name]) == stated(name)


@pytest.mark.parametrize(
    ("benchmarks", "limit", "said"),
    [
        ([], None, "name one or more"),
        ({"few": 3}, None, "'few' must be a Benchmark"),
        ({"few": benchmark("lambada")}, 2, "set it for each benchmark"),
    ],
)
def test_python_refuses_what_is_no_benchmark(benchmarks: Any, limit: int | None, said: str) -> None:
    model = LanguageModel(lively(GPT2Config(50257, 16, 1, 1, 8)), GPT2Tokenizer())
    with pytest.raises(UserError, match=said):
        model.evaluate(benchmarks, limit=limit)


def test_python_names_what_there_is() -> None:
    assert benchmark("hellaswag", limit=5) != benchmark("hellaswag")
    with pytest.raises(UserError, match=r"there is no 'helaswag'.*did you mean hellaswag"):
        benchmark("helaswag")
    with pytest.raises(UserError, match=r"no setting 'limits'.*did you mean limit"):
        benchmark("hellaswag", limits=5)
    with pytest.raises(UserError, match="limit: 0 is out of range"):
        benchmark("hellaswag", limit=0)
