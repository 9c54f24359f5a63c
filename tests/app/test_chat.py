"""A model that was trained on instructions answers in its template, and reads what was said as far as there is room."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from gpt2_lightning.api.chat import Chat
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.data.tables import Message
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling, generate, search
from gpt2_lightning.model import GPT2, GPT2Config
from tests.app.terminal import on_a_terminal
from tests.data.conversations import BARE, LETTERS
from tests.huggingface.networks import lively
from tests.outcomes import Outcome

BLOCK = 29
CONFIG = GPT2Config(vocab_size=LETTERS.vocab_size, block_size=BLOCK, n_layer=2, n_head=3, n_embd=15, tied_head=False)
SINGLE = Template(name="single", question="{instruction}?")
WITH_SYSTEM = Template(name="roles", question="{instruction}?", system="{system}\n", between="\n")

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively(CONFIG)


def save(model: GPT2, path: Path, template: Template = BARE) -> Path:
    task = {"kind": "instruct", "template": template.to_plain()}
    files.write(weights_alone(model, Description(CONFIG, LETTERS, {"seed": 3}, task)), path)
    return path


def chat_of(template: Template, system: str | None = None) -> tuple[Chat, list[str]]:
    notes: list[str] = []
    return Chat(template, LETTERS, BLOCK, notes.append, system), notes


def greedy(model: GPT2, ids: list[int], count: int) -> str:
    return LETTERS.decode(list(generate(model, torch.tensor(ids), Sampling(count, 0), LETTERS.end_of_text)))


def encoded(text: str) -> list[int]:
    return LETTERS.encode(text).tolist()


def test_a_question_is_read_after_all_that_was_said_as_in_training() -> None:
    chat, notes = chat_of(BARE)
    assert chat.encode("ab", 4).tolist() == encoded("ab?")
    chat.add("ab", "fe")
    assert chat.encode("cd", 4).tolist() == [*encoded("ab?fe"), LETTERS.end_of_text, *encoded("\ncd?")]
    chat.reset()
    assert chat.encode("cd", 4).tolist() == encoded("cd?")
    assert notes == []


def test_a_question_without_an_answer_is_forgotten() -> None:
    chat, _ = chat_of(BARE)
    chat.add("ab", "")
    assert chat.turns == []


def test_the_oldest_turns_are_dropped_and_that_is_said_once() -> None:
    chat, notes = chat_of(BARE)
    for number in range(9):
        question = "abc"[number % 3] * 3
        assert len(chat.encode(question, 4)) + 4 <= BLOCK + 1
        chat.add(question, "gfed")
    assert notes == [f"the context of {BLOCK} tokens is full: the oldest turns are dropped from now on"]
    assert chat.turns[-2:] == [Message("user", "ccc"), Message("assistant", "gfed")]
    assert chat.turns[0].role == "user"
    assert 2 < len(chat.turns) < 18


def test_the_message_of_the_system_stays() -> None:
    chat, notes = chat_of(WITH_SYSTEM, system="g")
    for _ in range(7):
        assert chat.encode("abc", 4).tolist()[:2] == encoded("g\n")
        chat.add("abc", "fed")
    assert notes[0].startswith("the context of")
    chat.reset()
    assert chat.encode("ab", 4).tolist() == encoded("g\nab?")


def test_a_template_of_single_questions_answers_each_by_itself() -> None:
    chat, notes = chat_of(SINGLE)
    chat.add("ab", "fe")
    assert chat.encode("cd", 4).tolist() == encoded("cd?")
    assert notes == ["the template single is for single questions: each is answered by itself"]


def test_an_empty_question_changes_nothing() -> None:
    chat, _ = chat_of(BARE)
    chat.add("ab", "fe")
    before = list(chat.turns)
    with pytest.raises(UserError, match="the question is empty"):
        chat.encode(" ", 4)
    assert chat.turns == before


def test_a_question_beyond_the_context_is_asked_without_earlier_turns() -> None:
    chat, _ = chat_of(BARE)
    chat.add("ab", "fe")
    assert chat.encode("a" * BLOCK, 4).tolist() == encoded("a" * BLOCK + "?")
    assert chat.turns == []


def test_a_template_without_a_place_for_the_system_refuses_it_at_once() -> None:
    with pytest.raises(UserError, match="the template single has no place for a message of the system"):
        chat_of(SINGLE, system="g")


def test_generate_answers_in_the_trained_template(model: GPT2, run_verb: Run, tmp_path: Path) -> None:
    closing = Template(name="closing", question="{instruction}?", answer_end=greedy(model, encoded("ab?"), 4)[2:])
    checkpoint = save(model, tmp_path / "instruct.ckpt", closing)
    settings = [f"checkpoint={checkpoint}", "prompt=ab", "temperature=0", "max_new_tokens=9"]
    assert run_verb("generate", *settings).out == greedy(model, encoded("ab?"), 2) + "\n", (
        "its end string ends the answer"
    )
    raw = run_verb("generate", *settings, "raw=true")
    assert raw.out == "ab" + greedy(model, encoded("ab"), 9) + "\n"


def test_the_end_string_ends_what_beam_search_finds(model: GPT2, run_verb: Run, tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=9, temperature=0, n_beams=2)
    best = search(model, torch.tensor(encoded("ab?")), sampling, LETTERS.end_of_text)[0]
    text = LETTERS.decode(list(best.ids))
    closing = Template(name="closing", question="{instruction}?", answer_end=text[3:5])
    checkpoint = save(model, tmp_path / "instruct.ckpt", closing)
    settings = [f"checkpoint={checkpoint}", "prompt=ab", "temperature=0", "n_beams=2", "max_new_tokens=9"]
    kept = text[: text.index(closing.answer_end)]
    assert kept
    assert run_verb("generate", *settings).out == kept + "\n"
    (tmp_path / "questions.txt").write_text("ab\n")
    files_ = [f"prompts={tmp_path / 'questions.txt'}", f"output={tmp_path / 'answers.jsonl'}"]
    assert run_verb("generate", settings[0], *settings[2:], *files_).code == 0
    (answer,) = json.loads((tmp_path / "answers.jsonl").read_text())["answers"]
    assert (answer["text"], answer["finish"], answer["tokens"]) == (kept, "stop_string", len(kept) + 2)


def test_a_conversion_keeps_the_template(model: GPT2, run_verb: Run, tmp_path: Path) -> None:
    checkpoint, converted, back = save(model, tmp_path / "instruct.ckpt"), tmp_path / "theirs", tmp_path / "back.ckpt"
    outcome = run_verb("convert", f"source={checkpoint}", f"target={converted}")
    assert outcome.code == 0, outcome.err
    assert "template (chat_template.jinja) renders the same in transformers" in outcome.out
    assert 'print(pipe("QUESTION?")[0]["generated_text"])' in (converted / "README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(converted)
    row = {"role": "user", "content": "ab"}
    assert tokenizer.apply_chat_template([row], return_dict=False) == encoded("ab?")
    expected = greedy(model, encoded("ab?"), 9) + "\n"
    settings = ["prompt=ab", "temperature=0", "max_new_tokens=9"]
    assert run_verb("generate", f"checkpoint={converted}", *settings).out == expected
    assert run_verb("convert", f"source={converted}", f"target={back}").code == 0
    assert run_verb("generate", f"checkpoint={back}", *settings).out == expected


def test_a_template_of_another_version_is_refused(model: GPT2, run_verb: Run, tmp_path: Path) -> None:
    converted = tmp_path / "theirs"
    assert run_verb("convert", f"source={save(model, tmp_path / 'instruct.ckpt')}", f"target={converted}").code == 0
    config = json.loads((converted / "config.json").read_text())
    config["instruction_template"]["question"] = "{nothing}"
    (converted / "config.json").write_text(json.dumps(config))
    outcome = run_verb("generate", f"checkpoint={converted}", "prompt=ab")
    assert outcome.code == 2
    assert "the template of this checkpoint cannot be read by this version: question" in outcome.err


def test_a_file_of_questions_is_answered_in_the_template_each_by_itself(
    model: GPT2, run_verb: Run, tmp_path: Path
) -> None:
    checkpoint = save(model, tmp_path / "instruct.ckpt")
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("ab\ncd\nab\n")
    settings = ["temperature=0", "max_new_tokens=5", f"prompts={questions}", f"output={answers}"]
    assert run_verb("generate", f"checkpoint={checkpoint}", *settings).code == 0
    found = [json.loads(line) for line in answers.read_text().splitlines()]
    texts = [row["answers"][0]["text"] for row in found if "answers" in row]
    assert texts == [greedy(model, encoded(question), 5) for question in ("ab?", "cd?", "ab?")]


def test_a_message_of_the_system_is_for_instructions_alone(tiny_run: Path, run_verb: Run) -> None:
    done = run_verb("generate", f"checkpoint={tiny_run}", "system=g", "prompt=a")
    assert (done.code, done.out) == (2, "")
    assert "system: it is for a model trained on instructions" in done.err


def test_of_several_answers_the_first_is_remembered(
    model: GPT2, run_verb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(ids: list[int]) -> list[str]:
        sampling = Sampling(max_new_tokens=4, temperature=0, n_beams=2)
        return [LETTERS.decode(list(beam.ids)) for beam in search(model, torch.tensor(ids), sampling)]

    def after(answer: str) -> list[str]:
        assert LETTERS.end_of_text is not None
        return searched([*encoded("ab?" + answer), LETTERS.end_of_text, *encoded("\ngf?")])

    first, second = searched(encoded("ab?"))
    assert after(first) != after(second)
    checkpoint = save(model, tmp_path / "instruct.ckpt")
    monkeypatch.setattr(sys, "stdin", io.StringIO("ab\ngf\n"))
    settings = ["temperature=0", "n_beams=2", "num_samples=2", "max_new_tokens=4", "ignore_end_of_text=true"]
    outcome = run_verb("generate", f"checkpoint={checkpoint}", "interactive=true", *settings, f"cache_dir={tmp_path}")
    texts = re.split(r"--- \d of 2, score .* ---\n", outcome.out)[1:]
    assert texts == [f"{text}\n" for text in [first, second, *after(first)]]


@pytest.mark.slow
def test_a_chat_on_a_terminal_reads_what_was_said(model: GPT2, tmp_path: Path) -> None:
    checkpoint = save(model, tmp_path / "instruct.ckpt")
    settings = [f"checkpoint={checkpoint}", "interactive=true", "temperature=0", "max_new_tokens=4"]
    first = greedy(model, encoded("ab?"), 4)
    second = greedy(model, [*encoded("ab?" + first), LETTERS.end_of_text, *encoded("\ncd?")], 4)
    assert second != greedy(model, encoded("cd?"), 4), "what was said before matters"
    with on_a_terminal("generate", *settings, f"cache_dir={tmp_path}") as terminal:
        for question, answer in (
            ("ab", first),
            ("cd", second),
            ("/reset", "the conversation is cleared"),
            ("ab", first),
        ):
            terminal.until("> ")
            terminal.type(f"{question}\n")
            terminal.until(f"{question}\r\n{answer}\r\n")
        terminal.until("> ")
        terminal.type("/quit\n")
