"""What users type, and what Hydra makes of it."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gpt2_lightning.app.config.overrides import CommandLine, as_typed, without_dashes
from gpt2_lightning.config_folder import config_folder

LETTERS = st.text(st.sampled_from("a'\"\\${}[](),:=~ €?"), max_size=12)


def rewritten(*arguments: str) -> list[str]:
    return CommandLine.read(list(arguments), config_folder()).arguments


@given(LETTERS)
def test_prompts_are_taken_to_the_letter(prompt: str) -> None:
    (override,) = rewritten(f"prompt={prompt}")
    (parsed,) = OverridesParser.create().parse_overrides([override])
    value = parsed.value()
    if value != "???":
        assert OmegaConf.create({"prompt": value}).prompt == prompt


@given(LETTERS)
def test_prompts_come_back_as_they_were_typed(prompt: str) -> None:
    (override,) = rewritten(f"prompt={prompt}")
    assert as_typed(override) == f"prompt={prompt}"


@pytest.mark.parametrize("key", ["system", "template.question", "template.between"])
def test_texts_that_may_be_null_are_taken_to_the_letter_as_well(key: str) -> None:
    (override,) = rewritten(f"{key}=Be brief, {{system}}: it's [all]")
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert parsed.value() == "Be brief, {system}: it's [all]"
    assert as_typed(override) == f"{key}=Be brief, {{system}}: it's [all]"
    assert rewritten(f"{key}=null") == [f"++{key}=null"]


def test_settings_need_not_be_in_a_yaml() -> None:
    assert rewritten("optimizer.betas=[0.9,0.99]") == ["++optimizer.betas=[0.9,0.99]"]


def test_settings_with_dashes_are_settings_as_an_agent_of_a_sweep_writes_them() -> None:
    typed = ["--optimizer.lr=0.001", "--model=tiny", "--cfg=job", "--config-dir=mine", "-m", "prompt=--a=b"]
    expected = ["optimizer.lr=0.001", "model=tiny", "--cfg=job", "--config-dir=mine", "-m", "prompt=--a=b"]
    assert [without_dashes(argument) for argument in typed] == expected


def test_groups_flags_and_hydras_own_settings_stay() -> None:
    arguments = ["-m", "model=tiny,char", "~callbacks.samples", "hydra.verbose=true", "--cfg", "job"]
    assert rewritten(*arguments) == [
        "-m",
        "--cfg",
        "job",
        "model=tiny,char",
        "~callbacks.samples",
        "hydra.verbose=true",
    ]


def test_free_texts_of_a_sweep_are_left_to_hydra() -> None:
    assert rewritten("-m", "data.path=a.txt,b.txt") == ["-m", "++data.path=a.txt,b.txt"]


def test_options_are_not_checked_where_others_may_be_found() -> None:
    arguments = ["hydra.searchpath=[file:///elsewhere]", "model=theirs"]
    assert CommandLine.read(arguments, config_folder()).faults == []


PATHS_AND_TEXTS = """
base cache_dir checkpoint compare data.path data.val_path init_from output prompts resume run_dir runs runs_dir source
target texts tokenizer.path tokenizer_from with prompt text label base_name callbacks.samples.prompt system
template.question template.question_with_input template.between template.system template.answer_end
""".split()  # noqa: SIM905  # as many as fit on a line


@pytest.mark.parametrize("key", PATHS_AND_TEXTS)
def test_paths_and_texts_are_known_by_their_annotations(key: str) -> None:
    assert rewritten(f"{key}=a, b: c") == [f"++{key}='a, b: c'"]
    assert as_typed(f"++{key}='a, b: c'") == f"{key}=a, b: c"


@pytest.mark.parametrize("key", ["optimizer.lr", "seed", "model.n_layer", "trainer.max_steps", "nothing.such", "promt"])
def test_other_values_are_left_to_hydra(key: str) -> None:
    assert rewritten(f"{key}=3") == [f"++{key}=3"]


@pytest.mark.parametrize(("key", "null"), [("output", True), ("base", True), ("prompt", False), ("data.path", False)])
def test_null_is_no_path_where_there_may_be_none(key: str, null: bool) -> None:
    read = CommandLine.read([f"{key}=null"], config_folder(), "train" if "." in key else "generate")
    assert read.arguments == [f"++{key}=null" if null else f"++{key}='null'"]
