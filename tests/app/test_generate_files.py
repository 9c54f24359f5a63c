"""`generate prompts=FILE output=FILE`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.api.text_generator import TextGenerator
from gpt2_lightning.app.generation.answer_files import open_answers
from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.inspection.token_labels import token_label
from tests.programs import running

Run = Callable[..., object]
WORDS = ["the", "ship", "goes over", "a", "old sea and", "star " * 10]
SHORT = ["max_new_tokens=9", "batch_size=4"]


@pytest.fixture
def answer(run_verb: Run, tiny_run: Path, workplace: Path) -> Run:
    def run(file: str, *settings: str, output: str = "out.jsonl") -> object:
        return run_verb("generate", f"checkpoint={tiny_run}", f"prompts={file}", f"output={output}", *settings)

    return run


def entries(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def write_jsonl(file: str, rows: list[dict[str, Any]]) -> None:
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_line_gets_the_answer_that_it_gets_alone(answer: Run, run_verb: Run, tiny_run: Path) -> None:
    Path("p.txt").write_bytes("\ufeffthe\r\n\r\n".encode() + "\n".join(WORDS[1:]).encode() + b"\n  \n")
    outcome = answer("p.txt", *SHORT)
    assert outcome.code == 0
    found = entries("out.jsonl")
    assert [entry["row"] for entry in found] == [1, 3, 4, 5, 6, 7]
    assert [entry["prompt"] for entry in found] == WORDS
    assert "row 7: the prompt has 50 tokens and the context 32: the last 32 are read" in outcome.err
    assert len({entry["settings"] for entry in found}) == 1
    for entry in found:
        (given,) = entry["answers"]
        alone = run_verb(
            "generate", f"checkpoint={tiny_run}", f"prompt={entry['prompt']}", SHORT[0], f"seed={given['seed']}"
        )
        assert alone.out == f"{entry['prompt']}{given['text']}\n"
        assert (given["finish"], given["tokens"], len(given["text"])) == ("length", 9, 9)


def test_samples_have_seeds_of_their_own(answer: Run, run_verb: Run, tiny_run: Path) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}, {"prompt": "the"}])
    answer("p.jsonl", *SHORT, "num_samples=3")
    answers = [given for entry in entries("out.jsonl") for given in entry["answers"]]
    assert len({given["seed"] for given in answers}) == len({given["text"] for given in answers}) == 6
    for given in answers:
        settings = ["prompt=the", SHORT[0], f"seed={given['seed']}"]
        assert run_verb("generate", f"checkpoint={tiny_run}", *settings).out == f"the{given['text']}\n"


def test_bad_rows_are_named_and_the_rest_goes_on(answer: Run) -> None:
    good = {"prompt": "the ship", "id": 7, "deep": {"a": [1, None, "é"]}}
    lines = [
        json.dumps(good),
        "{broken",
        '{"text": "a"}',
        '{"prompt": 3}',
        "[1]",
        '{"prompt": "€", "id": 8}',
        '{"prompt": "a", "answers": 1, "id": 9}',
        '{"prompt": "\\ud800"}',
        json.dumps({"prompt": ""}),
    ]
    Path("p.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"prompt": "\xff"}\n')
    outcome = answer("p.jsonl", *SHORT)
    faults = {
        2: "is no JSON: Expecting property name",
        3: "the field prompt is missing",
        4: "the field prompt is of type int",
        5: "is no JSON object",
        7: "has the field answers, which the output uses itself",
        8: "half of a surrogate pair",
        10: "is no text in UTF-8, at byte 12",
    }
    assert outcome.code == 2
    assert "in the prompts, 1 character ('€') is not in the tokenizer's alphabet and was replaced by" in outcome.err
    assert "7 rows of 10 got an error instead of an answer" in outcome.err
    found = {entry["row"]: entry for entry in entries("out.jsonl")}
    assert list(found) == list(range(1, 11))
    for row, fault in faults.items():
        assert fault in found[row]["error"]
        assert f"p.jsonl, row {row}: {found[row]['error']}\n" in outcome.err
    assert {key: found[1][key] for key in good} == good
    for row, read in {4: {"prompt": 3}, 6: {"prompt": "€", "id": 8}, 7: {"prompt": "a", "id": 9}}.items():
        assert found[row].items() >= read.items()
    assert "prompt" not in found[2]
    assert "answers" not in found[7]
    assert found[9]["answers"][0]["tokens"] == 9
    assert "row 9: the prompt is empty: the text starts from" in outcome.err


def test_a_bad_row_leaves_the_seeds_of_others_alone(answer: Run) -> None:
    rows = [{"prompt": word} for word in WORDS]
    write_jsonl("p.jsonl", rows)
    answer("p.jsonl", *SHORT, "num_samples=2")
    write_jsonl("q.jsonl", [*rows[:2], {}, *rows[3:]])
    answer("q.jsonl", *SHORT, "num_samples=2", output="other.jsonl")
    first, second = entries("out.jsonl"), entries("other.jsonl")
    assert "error" in second[2]
    for place in (0, 1, 3, 4, 5):
        assert first[place]["answers"] == second[place]["answers"]


@pytest.mark.slow
def test_a_killed_run_ends_with_every_row_once(answer: Run, tiny_run: Path) -> None:
    write_jsonl("p.jsonl", [{"prompt": WORDS[i % 5], "id": i} for i in range(80)])
    answer("p.jsonl", *SHORT, output="whole.jsonl")
    out = Path("killed.jsonl")
    settings = [f"checkpoint={tiny_run}", "prompts=p.jsonl", *SHORT, f"output={out}"]
    with running("generate", *settings, output=Path("said")) as program:
        program.wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 8, timeout=60)
        program.kill()
    there = out.read_bytes().count(b"\n")
    assert 8 <= there < 80, "it was killed half-way"
    outcome = answer("p.jsonl", *SHORT, output=str(out))
    assert f"{there} rows of 80 were answered already" in outcome.err
    assert out.read_bytes() == Path("whole.jsonl").read_bytes()


def test_a_file_that_was_cut_anywhere_is_completed(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": word} for word in WORDS] + [{}] + [{"prompt": "and back"}])
    answer("p.jsonl", "max_new_tokens=9", "batch_size=2")
    out = Path("out.jsonl")
    whole = out.read_bytes()
    for kept in (0, 1, whole.index(b"\n"), whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1):
        out.write_bytes(whole[:kept])
        assert answer("p.jsonl", "max_new_tokens=9", "batch_size=2").code == 2
        assert out.read_bytes() == whole, kept


def test_every_finished_row_is_kept_whatever_the_batches(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": WORDS[i % 5]} for i in range(16)])
    answer("p.jsonl", SHORT[0], "batch_size=16")
    out = Path("out.jsonl")
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for there, batch_size in ((15, 16), (7, 5), (1, 3)):
        out.write_bytes(b"".join(lines[:there]) + lines[there][:20])  # its last line was cut off
        outcome = answer("p.jsonl", SHORT[0], f"batch_size={batch_size}")
        rows = "1 row" if there == 1 else f"{there} rows"
        assert f"{rows} of 16 were answered already\n{(16 - there) * 9} tokens in " in outcome.err
        assert out.read_bytes() == whole


def test_an_interrupt_says_how_much_is_answered(answer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl("p.jsonl", [{"prompt": word} for word in WORDS])
    right, calls = TextGenerator.complete, itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return right(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TextGenerator, "complete", interrupted)
        outcome = answer("p.jsonl", SHORT[0], "batch_size=2")
    assert outcome.code == 130
    assert "4 of 6 rows are answered; the same command continues\n" in outcome.err
    assert "4 rows of 6 were answered already" in answer("p.jsonl", SHORT[0], "batch_size=2").err


def test_nothing_is_said_of_speed_where_nothing_was_answered(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": 3}])
    assert " tokens in " not in answer("p.jsonl", *SHORT).err


def test_a_finished_file_is_left_as_it_is(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": word} for word in WORDS])
    answer("p.jsonl", *SHORT)
    before = Path("out.jsonl").stat()
    outcome = answer("p.jsonl", SHORT[0], "batch_size=3")  # which changes no answer
    assert outcome.code == 0
    assert "6 rows of 6 were answered already" in outcome.err
    assert Path("out.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_an_output_of_other_settings_is_refused(answer: Run, tiny_run: Path) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}])
    write_jsonl("q.jsonl", [{"prompt": "the sea"}])
    answer("p.jsonl", *SHORT)
    before = Path("out.jsonl").read_bytes()
    nowhere = "checkpoint=nowhere.ckpt"  # it is refused before a model is loaded
    outcome = answer("q.jsonl", "max_new_tokens=8", "temperature=0.5", 'stop=["a"]', nowhere)
    assert outcome.code == 2
    for fragment in (
        "output: out.jsonl was made with others than these settings; name another file, or the same settings",
        "  max_new_tokens: 9 there, 8 now",
        "  temperature: 0.8 there, 0.5 now",
        "  stop: [] there, ['a'] now",
        "  prompts: p.jsonl, SHA-256 ",
        " now",
    ):
        assert fragment in outcome.err
    assert "there, q.jsonl, SHA-256 " in outcome.err
    outcome = answer("p.jsonl", *SHORT, f"checkpoint={tiny_run / 'checkpoints' / 'step-000012.ckpt'}")
    assert outcome.code == 2
    assert "  checkpoint: best.ckpt, SHA-256 of the weights " in outcome.err
    assert "there, step-000012.ckpt, " in outcome.err
    assert Path("out.jsonl").read_bytes() == before


def test_an_output_of_something_else_is_refused(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}, {"prompt": "sea"}])
    out = Path("out.jsonl")
    out.write_text("precious\n")
    outcome = answer("p.jsonl", *SHORT)
    assert outcome.code == 2
    assert "no out.jsonl.settings.json says what it was made with" in outcome.err
    assert out.read_text() == "precious\n"
    out.unlink()
    answer("p.jsonl", *SHORT)
    for damaged in ("precious\n", "\n".join(reversed(out.read_text().splitlines())) + "\n"):
        out.write_text(damaged)
        assert answer("p.jsonl", *SHORT).code == 2
        assert out.read_text() == damaged


def test_two_processes_do_not_write_one_output(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}])
    with open_answers(Path("out.jsonl").absolute(), Path.home() / ".cache" / "gpt2-lightning" / "locks"):
        outcome = answer("p.jsonl", *SHORT)
        assert outcome.code == 2
        assert "is being written by another process" in outcome.err
    assert [file.name for file in Path().iterdir()] == ["p.jsonl"]
    assert answer("p.jsonl", *SHORT).code == 0
    assert sorted(file.name for file in Path().iterdir()) == ["out.jsonl", "out.jsonl.settings.json", "p.jsonl"]


def test_a_lock_that_cannot_be_made_is_told(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}])
    outcome = answer("p.jsonl", "cache_dir=p.jsonl")
    assert outcome.code == 2
    assert "cache_dir: p.jsonl/locks cannot be written: Not a directory; set cache_dir" in outcome.err


def test_log_probabilities_are_the_models(answer: Run, tiny_run: Path) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the ship"}])
    answer("p.jsonl", *SHORT, "log_probabilities=3", "top_k=2")
    (given,) = entries("out.jsonl")[0]["answers"]
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    tokenizer = description.tokenizer
    prompt = tokenizer.encode("the ship").tolist()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + given["ids"]]))[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)
    assert tokenizer.decode(given["ids"]) == given["text"]
    for place, (chosen, likeliest) in enumerate(zip(given["log_probabilities"], given["likeliest"], strict=True)):
        assert chosen == pytest.approx(float(expected[place, given["ids"][place]]), abs=1e-5)
        top = expected[place].topk(3)
        assert [token for token, _ in likeliest] == top.indices.tolist()
        assert [value for _, value in likeliest] == pytest.approx(top.values.tolist(), abs=1e-5)
        assert token_label(tokenizer.token_bytes(likeliest[0][0]))


def test_beams_have_scores_and_no_seeds(answer: Run, run_verb: Run, tiny_run: Path) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}, {"prompt": "ship"}])
    beams = ["temperature=0", "n_beams=3", "num_samples=2"]
    assert answer("p.jsonl", *SHORT, *beams).code == 0
    for entry in entries("out.jsonl"):
        best, second = entry["answers"]
        assert best["score"] >= second["score"]
        assert "seed" not in best
        shown = run_verb("generate", f"checkpoint={tiny_run}", f"prompt={entry['prompt']}", SHORT[0], *beams).out
        assert shown == "".join(
            f"--- {number} of 2, score {given['score']:.4f} ---\n{entry['prompt']}{given['text']}\n"
            for number, given in enumerate((best, second), start=1)
        )


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(None, "absent.txt cannot be read: No such file or directory"), ("\n \n", "holds no prompt, all of its lines")],
)
def test_a_file_without_prompts_is_refused(answer: Run, content: str | None, fragment: str) -> None:
    name = "absent.txt" if content is None else "blank.txt"
    if content is not None:
        Path(name).write_text(content)
    outcome = answer(name, "checkpoint=nowhere.ckpt")  # it is refused before a model is loaded
    assert outcome.code == 2
    assert fragment in outcome.err
    assert not Path("out.jsonl").exists()


def test_an_output_that_cannot_be_written_is_told(answer: Run) -> None:
    write_jsonl("p.jsonl", [{"prompt": "the"}])
    outcome = answer("p.jsonl", "checkpoint=nowhere.ckpt", output="p.jsonl/out.jsonl")
    assert outcome.code == 2
    assert "output: p.jsonl/out.jsonl cannot be written" in outcome.err
