"""The interactive prompt of `generate`, on a terminal of its own."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.terminal import on_a_terminal

Run = Callable[..., object]


def test_a_conversation_on_a_terminal(tiny_run: Path, workplace: Path) -> None:
    settings = [f"checkpoint={tiny_run}", "interactive=true", "temperature=0", "max_new_tokens=12"]
    with on_a_terminal("generate", *settings, f"cache_dir={workplace}") as terminal:
        terminal.until("> ")
        terminal.type("the ship\n")
        first = terminal.until("\r\n> ").replace("the ship\r\n", "", 1)
        terminal.type("\x1b[A\n")  # the up arrow brings the line back
        assert first.strip("\r\n> ") in terminal.until("\r\n> ")
        terminal.type("/set max_new_tokens 1000000000\n")
        terminal.until("max_new_tokens 1000000000\r\n")
        terminal.until("> ")
        terminal.type("the star\n")
        terminal.until("the star\r\nthe star")
        terminal.ctrl_c()
        terminal.until("stopped\r\n")
        terminal.until("> ")
        terminal.type("half a li")
        terminal.until("half a li")
        terminal.ctrl_c()
        terminal.until("> ")
        terminal.type("\x04")
    assert (workplace / "generate_history").read_text().splitlines() == [
        "the ship",
        "/set max_new_tokens 1000000000",
        "the star",
    ]


@pytest.fixture
def converse(
    run_verb: Run, tiny_run: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[object]]:
    """Type lines, with settings; what the program did."""

    def talk(lines: list[str], *settings: str) -> object:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run_verb("generate", f"checkpoint={tiny_run}", f"cache_dir={workplace}", "interactive=true", *settings)

    return talk


def test_each_answer_takes_the_next_seed(converse: Run, run_verb: Run, tiny_run: Path) -> None:
    outcome = converse(["the ship", "the ship", "/seed 3", "the ship"], "max_new_tokens=20", "seed=7")
    expected = [
        run_verb("generate", f"checkpoint={tiny_run}", "prompt=the ship", "max_new_tokens=20", f"seed={seed}").out
        for seed in (7, 8, 3)
    ]
    assert outcome.code == 0
    assert outcome.out == "".join(expected)


def test_settings_are_changed_as_on_the_command_line(converse: Run, run_verb: Run, tiny_run: Path) -> None:
    changes = ["/set temperature 0", "/set no_repeat_ngram_size=3", '/set stop ["sea"]', "/set top_k null"]
    outcome = converse([*changes, "the ship", "/quit", "never"], "max_new_tokens=30", "top_k=2")
    settings = ["temperature=0", "no_repeat_ngram_size=3", 'stop=["sea"]', "max_new_tokens=30"]
    assert outcome.out == run_verb("generate", f"checkpoint={tiny_run}", "prompt=the ship", *settings).out
    assert "no_repeat_ngram_size 3\n" in outcome.err


def test_a_mistake_is_told_and_changes_nothing(converse: Run) -> None:
    lines = ["/set top_p 2", "/set temperature warm", "/set temprature 1", "/set checkpoint x", "/sing", "/set"]
    outcome = converse([*lines, "/set temperature"], "temperature=0.5")
    assert outcome.code == 0
    assert outcome.out == ""
    for fragment in (
        "top_p: 2 is out of range, above 0 up to 1 is allowed",
        "temperature: 'warm' does not fit",
        "temprature cannot be set here",
        "checkpoint cannot be set here",
        "there is no command /sing",
        "  top_p 1.0\n",
        "\ntemperature 0.5\n",
    ):
        assert fragment in outcome.err


def test_settings_are_shown_as_they_are_typed(converse: Run) -> None:
    shown = converse(["/set", "/set stop"], 'stop=["a b"]').err
    for line in ("  top_k null\n", "  ignore_end_of_text false\n", "  temperature 0.8\n", '\nstop ["a b"]\n'):
        assert line in shown
    assert "runs_dir" not in shown


def test_the_window_is_spoken_of_once(converse: Run) -> None:
    assert converse(["the ship", "the sea"], "max_new_tokens=60").err.count("a window slid") == 1


def test_a_prompt_may_begin_with_a_slash(converse: Run) -> None:
    outcome = converse(["//set"])
    assert outcome.out.startswith("/set")
    assert "1 character ('/') is not in the tokenizer's alphabet and was replaced by" in outcome.err


def test_ctrl_c_ends_a_single_text_quietly(run_verb: Run, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(io.StringIO):
        def write(self, text: str) -> int:
            before, after = self.tell(), self.tell() + super().write(text)
            if before < 30 <= after:
                os.kill(os.getpid(), signal.SIGINT)
            return after - before

    monkeypatch.setattr(sys, "stdout", Interrupting())
    outcome = run_verb("generate", f"checkpoint={tiny_run}", "prompt=the ship", "max_new_tokens=1000000000")
    assert outcome.code == 130
    assert "error" not in outcome.err
