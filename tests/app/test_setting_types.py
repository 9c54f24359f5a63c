"""Faults of settings, and what can be said of the others in spite of them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from gpt2_lightning.app.config.preflight import Node
from gpt2_lightning.app.config.validation import broken_invariants, stand_ins, type_faults
from tests.app.test_bad_input import refused

Run = Callable[..., object]


@pytest.mark.parametrize(
    ("hint", "value", "end"),
    [
        (list[str], "e", "it must be a list; write stop=[e]"),
        (list[str], "the end", """it must be a list; write 'stop=["the end"]'"""),
        (list[int] | None, 3, "it must be a list; write stop=[3]"),
        (list[str], {"a": 1}, "it must be a list"),
        (list[str], [3], "it must be a valid string"),
        (str, "a\udcff", "holds bytes that are no text in UTF-8; check how the terminal or file encodes it"),
        (int, True, "it must be a valid integer"),
    ],
)
def test_a_fault_says_what_to_write(hint: Any, value: Any, end: str) -> None:
    (fault,) = type_faults(hint, value, "stop")
    assert fault.startswith(f"stop: {value!r} ")
    assert fault.endswith(end)


def test_the_value_that_is_advised_fits() -> None:
    assert type_faults(list[str], ["e"], "stop") == []
    assert type_faults(str, "ā\u2028🙂", "prompt") == []


@dataclass(frozen=True)
class Sizes:
    """Settings without defaults, of which some depend on each other."""

    way: Literal["short", "long"]
    batch: int
    micro: int
    share: float

    def __post_init__(self) -> None:
        faults = [] if 0 <= self.share <= 1 else [f"share: {self.share} is out of range, 0 to 1 is allowed"]
        if not 1 <= self.micro <= self.batch:
            faults.append(f"micro: {self.micro} is out of range, 1 to {self.batch} is allowed")
        if self.way == "short" and self.micro > 5:
            faults.append(f"micro: {self.micro} is too much for a short way")
        if faults:
            raise ValueError("\n".join(faults))


def said_of(*faulty: str, **settings: Any) -> list[str]:
    """The keys of what is said, where some settings are faulty."""
    whole = {"way": "short", "batch": 10, "micro": 2, "share": 0.5} | settings
    hints = typing.get_type_hints(Sizes)
    pairs = {name: stand_ins(inspect.Parameter.empty, hints[name]) for name in faulty}
    return [line.partition(":")[0] for line in broken_invariants(Sizes, whole, pairs)]


def test_a_faulty_setting_hides_no_fault_of_another() -> None:
    assert said_of() == []
    assert said_of(share=2, micro=11) == ["share", "micro", "micro"]
    assert said_of("way", way="far", share=2) == ["share"]
    assert said_of("batch", "micro", batch="ten", micro=None, share=2) == ["share"]


def test_what_depends_on_a_faulty_setting_is_not_said() -> None:
    """What `micro` may be follows from `batch`, and whether 7 is too much from `way`."""
    assert said_of("batch", batch="ten", micro=0) == []
    assert said_of("way", way="far", micro=7) == []
    assert said_of("micro", micro="two", way="short") == []


def test_nothing_is_said_where_no_value_is_known_to_stand_in() -> None:
    assert stand_ins(inspect.Parameter.empty, tuple[float, float]) is None
    assert stand_ins(inspect.Parameter.empty, Node) is None
    assert broken_invariants(Sizes, {}, {"share": None}) == []
    assert stand_ins((0.9, 0.95), tuple[float, float]) == ((0.9, 0.95), (0.9, 0.95))


def test_a_command_names_a_wrong_word_and_a_number_out_of_range_together(run_verb: Run) -> None:
    refused(
        run_verb("plot", "x=foo", "smoothing=2", "keys=loss"), "3 faults", "x: 'foo'", "smoothing: 2", "keys=[loss]"
    )


def test_a_prompt_that_is_no_text_is_named(run_verb: Run) -> None:
    refused(run_verb("generate", "prompt=a\udcff", "checkpoint=x"), r"prompt: 'a\udcff' holds bytes that are no text")
