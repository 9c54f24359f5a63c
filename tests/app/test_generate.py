"""The verb `generate`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpt2_lightning.api.text_generator import TextGenerator
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.checkpoints.content import load_model
from gpt2_lightning.generation import Sampling, write
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.inference.quantized import quantize
from gpt2_lightning.tokenizers import CharTokenizer, Tokenizer
from tests.generation.random_model import make_model

Run = Callable[..., object]


def greedy(model: GPT2, tokenizer: Tokenizer, prompt: str, count: int) -> str:
    """The likeliest text, without a cache; of a full context, the last three quarters and the new token stay."""
    ids, start, context = tokenizer.encode(prompt).tolist(), 0, model.config.block_size
    for _ in range(count):
        if len(ids) - start > context:
            start = len(ids) - 1 - 3 * context // 4
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids[start:]]))[0, -1].argmax()))
    return tokenizer.decode(ids)


@pytest.fixture
def generate(run_verb: Run, tiny_run: Path) -> Run:
    """Run the verb on the small run."""
    return lambda *settings: run_verb("generate", f"checkpoint={tiny_run}", *settings)


def test_greedy_text_is_the_likeliest(generate: Run, tiny_run: Path) -> None:
    outcome = generate("prompt=the ship", "temperature=0", "max_new_tokens=90")
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    assert outcome.code == 0
    assert outcome.out == greedy(model, description.tokenizer, "the ship", 90) + "\n"


def test_seed_fixes_the_text(run_verb: Run, tiny_run: Path) -> None:
    texts = [run_verb("generate", f"checkpoint={tiny_run}", "top_k=5", f"seed={seed}").out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_checkpoint_file_may_be_named(run_verb: Run, tiny_run: Path) -> None:
    file = tiny_run / "checkpoints" / "step-000012.ckpt"
    outcome = run_verb("generate", f"checkpoint={file}", "max_new_tokens=1")
    assert outcome.code == 0
    assert f"from {file}" in outcome.err


def test_latest_run_is_the_default(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"runs_dir={tiny_run.parent.parent}", "max_new_tokens=1")
    assert f"from {tiny_run / 'checkpoints' / 'best.ckpt'}" in outcome.err


def test_reader_may_leave_early(tiny_run: Path, root: Path, workplace: Path) -> None:
    command = f"{sys.executable} {root / 'generate.py'} checkpoint={tiny_run} max_new_tokens=2000 | head -c 5"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "Error" not in done.stderr


def test_long_prompt_is_read_from_its_end(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("generate", f"checkpoint={tiny_run}", f"prompt={'star ' * 10}", "max_new_tokens=3")
    assert outcome.code == 0
    assert "50 tokens and the context 32: the last 32 are read" in outcome.err


def test_what_a_window_does_is_said_once(generate: Run) -> None:
    outcome = generate("prompt=the", "max_new_tokens=90", "num_samples=2")
    assert outcome.err.count("past the context of 32 tokens a window slid") == 1
    assert "slid" not in generate("prompt=the", "max_new_tokens=30").err
    assert "slid" in generate("prompt=the", "max_new_tokens=31").err
    beams = ["n_beams=2", "temperature=0"]
    assert "slid" not in generate("prompt=the", "max_new_tokens=30", *beams).err
    assert "slid" in generate("prompt=the", "max_new_tokens=31", *beams).err


def test_an_empty_prompt_starts_from_something_that_is_said(generate: Run) -> None:
    outcome = generate("prompt=", "max_new_tokens=5", "seed=3")
    assert "the prompt is empty: the text starts from a new line" in outcome.err
    assert "\n" + outcome.out == generate("prompt=\n", "max_new_tokens=5", "seed=3").out


def test_samples_are_headed_by_the_seeds_that_repeat_them(generate: Run) -> None:
    outcome = generate("prompt=the ship", "max_new_tokens=9", "num_samples=3", "seed=5")
    found = re.findall(r"--- (\d) of 3, seed=(\d+) ---\n(.*(?:\n(?!---).*)*)\n", outcome.out)
    assert [number for number, _, _ in found] == ["1", "2", "3"]
    assert len({text for _, _, text in found}) == 3
    for _, seed, text in found:
        assert generate("prompt=the ship", "max_new_tokens=9", f"seed={seed}").out == f"{text}\n"


def test_settings_of_the_sampler_are_settings_of_the_verb(generate: Run, tiny_run: Path) -> None:
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    sampling = Sampling(
        max_new_tokens=20,
        temperature=1.5,
        top_k=9,
        seed=4,
        top_p=0.9,
        min_p=0.01,
        typical_p=0.95,
        repetition_penalty=1.2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        no_repeat_ngram_size=4,
    )
    ids = prompt_ids("the", description.tokenizer)
    pieces = write(model, description.tokenizer, [ids], sampling)
    settings = [f"{name}={value}" for name, value in vars(sampling).items() if value is not None]
    assert generate("prompt=the", *settings).out == f"the{''.join(piece.text for piece in pieces)}\n"


def test_stop_strings_end_a_text(generate: Run) -> None:
    whole = generate("prompt=the", "max_new_tokens=60", "seed=2").out
    at = whole.index("\n", 3)
    assert at < len(whole) - 1, "the text has a line break"
    assert generate("prompt=the", "max_new_tokens=60", "seed=2", r'stop=["\n"]').out == whole[:at] + "\n"
    assert Config.stop_strings.fget(SimpleNamespace(stop=[r"a\nb\t\\n", r"\d"])) == ["a\nb\t\\n", r"\d"]


@pytest.mark.parametrize("asked", [[], ["prompt=-"]], ids=["piped", "asked for"])
def test_the_prompt_may_come_from_standard_input(
    generate: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    Path("prompt.txt").write_text("the\nship\n")
    with Path("prompt.txt").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        outcome = generate(*asked, "max_new_tokens=9")
    assert outcome.out == generate("prompt=the\nship", "max_new_tokens=9").out
    assert "the prompt is read from standard input" in outcome.err


def test_a_prompt_that_is_given_leaves_standard_input_alone(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write_ = os.pipe()  # nothing comes, and it stays open
    with os.fdopen(read) as file, os.fdopen(write_, "w"):
        monkeypatch.setattr(sys, "stdin", file)
        assert generate("prompt=", "max_new_tokens=2").code == 0


def test_standard_input_that_is_no_text_is_refused(
    generate: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prompt.bin").write_bytes(b"the \xff")
    with Path("prompt.bin").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        outcome = generate("max_new_tokens=9")
    assert (outcome.code, "standard input is no text in UTF-8, at byte 4" in outcome.err) == (2, True)


def test_probabilities_without_colors_are_numbers(generate: Run) -> None:
    plain = generate("prompt=the", "max_new_tokens=6", "top_k=3").out
    outcome = generate("prompt=the", "max_new_tokens=6", "top_k=3", "probabilities=true")
    assert outcome.out.startswith(plain)
    header, *lines = outcome.out.removeprefix(plain).splitlines()
    assert header == "p      token"
    assert len(lines) == 6
    assert all(re.fullmatch(r"0\.\d{3}  \S", line) for line in lines)
    assert re.search(r"^6 tokens, log-probability -\d+\.\d{3} a token, perplexity", outcome.err, re.M)


def test_alternatives_are_listed_likeliest_first(generate: Run) -> None:
    outcome = generate("prompt=the", "max_new_tokens=6", "temperature=0", "alternatives=3")
    *_, header, one, two, three, four, five, six = outcome.out.splitlines()
    assert header.split() == ["p", "token", "likeliest"]
    for line in (one, two, three, four, five, six):
        p, token, first, first_token, second, _, third, _ = line.split()
        assert (p, token) == (first, first_token)
        assert float(first) >= float(second) >= float(third)


def test_colors_show_the_probabilities(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["prompt=the", "max_new_tokens=40", "probabilities=true"]
    plain = generate(*settings[:2]).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    drawn = generate(*settings).out
    assert "\x1b[38;2;" in drawn
    assert ";48;2;" in drawn
    *text, legend = re.sub(r"\x1b\[[\d;]*m", "", drawn).splitlines()
    assert "\n".join(text).replace("↵", "") + "\n" == plain
    assert legend == "probability of each token:  below 1 %  1-5 %  5-20 %  20-50 %  50-90 %  90 % and above "
    monkeypatch.setenv("NO_COLOR", "1")
    assert "48;2;" not in generate(*settings).out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_type_to_compute_in_may_be_chosen(generate: Run, tiny_run: Path, dtype: str) -> None:
    Path("p.txt").write_text("the ship\n")
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[dtype]
    generate("prompts=p.txt", "output=o.jsonl", "log_probabilities=0", "max_new_tokens=9", f"dtype={short}")
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    ids = prompt_ids("the ship", description.tokenizer)
    sampling = Sampling(max_new_tokens=9, log_probabilities=0)
    expected = [
        [piece.token.log_probability for piece in write(model.to(type_), description.tokenizer, [ids], sampling)]
        for type_ in (torch.float32, getattr(torch, dtype))
    ]
    assert json.loads(Path("o.jsonl").read_text())["answers"][0]["log_probabilities"] == expected[1]
    assert (expected[0] == expected[1]) == (dtype == "float32")


def test_int8_weights_write_what_their_model_writes(generate: Run, tiny_run: Path) -> None:
    Path("p.txt").write_text("the ship\n")
    settings = ("prompts=p.txt", "output=o.jsonl", "log_probabilities=0", "max_new_tokens=9")
    outcome = generate(*settings, "quantize=int8")
    assert outcome.code == 0, outcome.err
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", torch.device("cpu"))
    quantize(model)
    ids = prompt_ids("the ship", description.tokenizer)
    pieces = write(model, description.tokenizer, [ids], Sampling(max_new_tokens=9, log_probabilities=0))
    expected = [piece.token.log_probability for piece in pieces]
    assert json.loads(Path("o.jsonl").read_text())["answers"][0]["log_probabilities"] == expected
    refused = generate(*settings)
    assert refused.code == 2
    assert "dtype" in refused.err, "answers of other weights are not continued"


def test_an_end_of_text_may_be_ignored() -> None:
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz.!", end_of_text=True)
    model = make_model(GPT2Config(29, block_size=11, n_layer=2, n_head=3, n_embd=21, tied_head=False))
    config = Config()
    for seed in range(100):
        settings = dataclasses.replace(config.generation(), max_new_tokens=40, seed=seed, temperature=2.0)
        generator = TextGenerator(model, tokenizer, settings)
        ((ends,),) = generator.complete([generator.encode("abc")])
        if ends.finish == "end_of_text":
            break
    generator = TextGenerator(model, tokenizer, dataclasses.replace(settings, ignore_end_of_text=True))
    ((goes_on,),) = generator.complete([generator.encode("abc")])
    assert (goes_on.finish, len(goes_on.pieces)) == ("length", 40)
    assert goes_on.text.startswith(f"{ends.text}<|endoftext|>")
    assert tokenizer.end_of_text == 28


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["top_p=0"], "top_p: 0 is out of range, above 0 up to 1 is allowed"),
        (["temperature=-1"], "temperature: -1 is out of range"),
        (["num_samples=0"], "num_samples: 0 is out of range, 1 or more is allowed"),
        (["batch_size=0"], "batch_size: 0 is out of range, 1 or more is allowed"),
        (["alternatives=-1"], "alternatives: -1 is out of range, 0 or more is allowed"),
        (['stop=["a",""]'], "stop: one of them is empty"),
        (["prompt=a", "interactive=true"], "prompt: it does not go with interactive, choose one"),
        (["prompts=a.txt"], "output: missing; add output=FILE.jsonl"),
        (["output=a.jsonl"], "output: it is for the answers to prompts=FILE"),
        (["prompts=a", "output=-"], "output: - is not a file"),
        (["prompts=a", "output=b", "probabilities=true"], "log_probabilities=N writes them to the output"),
        (["log_probabilities=2"], "probabilities=true and alternatives=N show them here"),
        (["num_samples=2", "temperature=0"], "num_samples: 2 texts would be the same one with temperature=0"),
        (["n_beams=2"], "temperature: 0.8 does not go with n_beams=2, set temperature=0"),
        (["n_beams=2", "temperature=0", "num_samples=3"], "num_samples: 3 is out of range, n_beams=2 finds no more"),
        (["n_beams=2", "temperature=0", 'stop=["a"]'], "stop: beam search does not support stop strings"),
        (["n_beams=2", "temperature=0", "alternatives=1"], "probabilities: beam search reports scores of texts alone"),
        (["early_stopping=maybe"], "early_stopping: 'maybe' does not fit"),
        (["device=tpu"], "device: 'tpu' does not fit"),
        (["top_kk=3"], "top_kk: unknown key; did you mean top_k?"),
    ],
)
def test_settings_that_cannot_be_are_named(generate: Run, settings: list[str], fault: str) -> None:
    outcome = generate(*settings)
    assert outcome.code == 2
    assert fault in outcome.err
    assert outcome.err.startswith("error: 1 fault in the configuration\n"), outcome.err


def test_all_faults_come_in_one_message(generate: Run) -> None:
    outcome = generate("top_p=2", "batch_size=0", "n_beams=2")
    assert outcome.err.startswith("error: 3 faults in the configuration\n")


def test_help_names_every_setting(run_verb: Run) -> None:
    shown = run_verb("generate", "--help").out
    names = {field.name for field in dataclasses.fields(Config)}
    assert set(re.findall(r"^  (\w+): ", shown, re.M)) == names
    assert max(map(len, shown.splitlines())) <= 120
