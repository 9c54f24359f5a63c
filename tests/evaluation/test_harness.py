"""The model `gpt2-lightning` of lm-evaluation-harness, beside the harness's `hf` backend on the export."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.api.load import load
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks import Lambada, MultipleChoice
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark
from gpt2_lightning.huggingface import chat_template
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.huggingface.networks import lively

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed; pip install gpt2-lightning[eval]")
pytest.importorskip("accelerate", reason="accelerate, which its hf backend needs, is not installed")

from gpt2_lightning import harness
from tests.evaluation.harness_tasks import (
    assert_benchmark_agrees,
    assert_same_results,
    instances,
    numbers,
    on_checkpoint,
    on_export,
    results,
    task,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # other programs may warn of what they please

CONFIG = GPT2Config(vocab_size=50257, block_size=48, n_layer=2, n_head=3, n_embd=24)
CHOICES = {
    "arc_easy": [
        {"question": "What is  cold?", "choices": {"text": ["fire", "ice"], "label": ["A", "B"]}, "answerKey": "B"},
        {
            "question": "Who sees at night?",
            "choices": {"text": ["a stone", "the owl in the old tree", "nobody"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
    ],
    "blimp": [
        {"sentence_good": "The keepers see themselves.", "sentence_bad": "The keepers see itself."},
        {"sentence_good": "A star falls.", "sentence_bad": "A star fall."},
    ],
    "piqa": [
        {"goal": "To row a boat,", "sol1": "use oars.", "sol2": "use a long spoon, or two", "label": 0},
        {"goal": "Open a door", "sol1": "Push.", "sol2": "Push, or pull.", "label": 1},
    ],
    "winogrande": [
        {"sentence": "The keeper saw the owl since _ was awake.", "option1": "he", "option2": "the owl", "answer": "2"},
        {"sentence": "Ann met Eve, and _ smiled .", "option1": "Ann", "option2": "Eve", "answer": "1"},
    ],
}
"""Rows of tasks of multiple choice, in the format of each."""
HELLASWAG = [
    {
        "activity_label": "Baking bread",
        "ctx_a": "[header] How to bake [title] Mix the flour.  Then wait.",
        "ctx_b": "the cook",
        "endings": ["opens the oven [step] at once.", "sleeps.", "eats a stone, and then another one.", ", he sings"],
        "label": "0",
    },
    {
        "activity_label": "Rowing",
        "ctx_a": "Two people sit in a boat on a lake.",
        "ctx_b": "",
        "endings": ["They row.", "They row, and the café on the shore comes closer.", "A fish 🐟 reads.", "They"],
        "label": "1",
    },
    {
        "activity_label": "Waiting",
        "ctx_a": "A man waits for a train that does not come. " * 5,
        "ctx_b": "he",
        "endings": ["waits.", "goes home.", "waits.", "takes the bus that stops behind the station."],
        "label": "3",
    },
]
LAMBADA = [
    {"text": "The keeper went down to the sea, and the sea took the keeper"},
    {"text": "“Who is there?” he asked.\n\nNobody answered, so he asked once more: “Who"},
    {"text": "One two three four five six seven. " * 8 + "One two"},
    {"text": "Yes, said Yevgeniya. Yes, said Yevgeniya"},
]
PAGES = [
    {"page": " = The sea = \n\n The sea @-@ side is 1 @,@ 200 km long . It ' s cold . \n" * 9},
    {"page": "\n A short page , of one line . \n"},
    {"page": "Five"},
]
PROMPTS = ["The keeper of the lamp", "A", "One two three four five six seven. " * 9, "over<|endoftext|>The sea"]


@pytest.fixture(autouse=True, scope="module")
def offline_in_one_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("DISABLE_MULTIPROC", "1")  # the harness starts processes for bootstraps
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and its export."""
    folder = tmp_path_factory.mktemp("harness")
    model = LanguageModel(lively(CONFIG), GPT2Tokenizer())
    return model.save(folder / "model.ckpt"), model.save(folder / "export")


@pytest.fixture(scope="module")
def theirs(saved: tuple[Path, Path]) -> Any:
    return on_export(saved[1])


@pytest.fixture(scope="module")
def ours(saved: tuple[Path, Path]) -> harness.HarnessModel:
    return on_checkpoint(saved[0])


@pytest.fixture(scope="module")
def expected(theirs: Any) -> dict[str, Any]:
    """What the `hf` backend finds."""
    return results(theirs, tasks("hellaswag", "lambada_openai", "wikitext", *CHOICES))


def tasks(*names: str) -> list[Any]:
    rows = {"hellaswag": HELLASWAG, "lambada_openai": LAMBADA, "wikitext": PAGES, **CHOICES}
    return [task(name, rows[name]) for name in names]


def test_tasks_give_the_log_likelihoods_and_metrics_of_the_export(ours: Any, expected: dict[str, Any]) -> None:
    found_by_ours = results(ours, tasks("hellaswag", "lambada_openai", "wikitext"))
    assert len(found_by_ours["samples"]) == 3
    assert_same_results(found_by_ours, expected)
    found = [value for sample in expected["samples"]["hellaswag"] for value, _ in numbers(sample)]
    assert np.std(found) > 5  # the network is not degenerate


@pytest.mark.parametrize(
    ("name", "rows", "benchmark"),
    [
        ("lambada_openai", LAMBADA, Lambada),
        ("hellaswag", HELLASWAG, partial(MultipleChoice, row_format="hellaswag")),
        ("arc_easy", CHOICES["arc_easy"], partial(MultipleChoice, row_format="arc")),
        ("blimp", CHOICES["blimp"], partial(MultipleChoice, row_format="minimal_pair")),
        ("piqa", CHOICES["piqa"], partial(MultipleChoice, row_format="piqa")),
        ("winogrande", CHOICES["winogrande"], partial(MultipleChoice, row_format="winogrande")),
    ],
)
def test_benchmarks_of_evaluate_give_the_log_likelihoods_and_metrics_of_the_export(
    saved: tuple[Path, Path],
    expected: dict[str, Any],
    tmp_path: Path,
    name: str,
    rows: list[dict[str, Any]],
    benchmark: Callable[..., Benchmark],
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert_benchmark_agrees(benchmark(path=str(path)), load(saved[0], device="cpu"), expected, name)


def shifted(tokenizer: Any, context: str, continuation: str) -> Any:
    before, after = encode_pair(tokenizer, context, continuation)
    ids = np.concatenate([before, after])
    return ids[: len(before) - 1], ids[len(before) - 1 : -1]


def spaced(tokenizer: Any, context: str, continuation: str) -> Any:
    return encode_pair(tokenizer, context, f" {continuation}")


encode_pair = harness.encode_pair


@pytest.mark.parametrize("planted", [shifted, spaced])
def test_planted_error_shows(
    ours: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, planted: Callable
) -> None:
    monkeypatch.setattr(harness, "encode_pair", planted)
    with pytest.raises(AssertionError, match="lambada_openai"):
        assert_same_results(results(ours, tasks("lambada_openai")), expected)


def test_log_likelihoods_of_unusual_requests_are_those_of_the_export(ours: Any, theirs: Any) -> None:
    pairs = [
        ("", "The sea"),
        ("", "<|endoftext|>The sea"),
        ("The sea ", "is cold"),
        ("The sea\n\n", "is cold"),
        ("over<|endoftext|>", "The sea"),
        ("The sea", " is cold"),
        ("The sea", " is"),
        ("The sea", " is cold"),
    ]
    found = ours.loglikelihood(instances("loglikelihood", pairs))
    expected = theirs.loglikelihood(instances("loglikelihood", pairs))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    np.testing.assert_allclose([value for value, _ in found], [value for value, _ in expected], rtol=0, atol=1e-4)


def test_empty_document_has_log_likelihood_zero(ours: Any, theirs: Any) -> None:
    documents = instances("loglikelihood_rolling", [("",), ("The sea",)])
    assert ours.loglikelihood_rolling(documents) == pytest.approx(theirs.loglikelihood_rolling(documents), abs=1e-4)
    assert ours.loglikelihood_rolling(documents)[0] == 0


def test_greedy_texts_are_those_of_the_export(ours: Any, theirs: Any) -> None:
    def texts(model: Any, *until: str, **options: Any) -> list[str]:
        chosen = {"until": list(until), "max_gen_toks": 12, **options}
        return model.generate_until(instances("generate_until", [(prompt, dict(chosen)) for prompt in PROMPTS]))

    theirs.batch_size_per_gpu = 1
    whole = texts(ours)
    assert whole == texts(theirs)
    assert len(set(whole)) == len(PROMPTS)
    assert texts(ours, max_gen_toks=5, do_sample=False, temperature=0.7) == texts(theirs, max_gen_toks=5)
    stops = [whole[0][3:5], whole[1][4:9], "\n\n", "<|im_end|>"]
    stopped = texts(ours, *stops)
    assert stopped == texts(theirs, *stops)
    assert sum(one != other for one, other in zip(stopped, whole, strict=True)) >= 2
    assert texts(ours, repetition_penalty=1.7) == texts(theirs, repetition_penalty=1.7) != whole
    theirs.batch_size_per_gpu = 16


def test_sampled_texts_differ_between_repeats_and_are_reproduced(ours: Any) -> None:
    options = {"until": ["\n\n"], "do_sample": True, "temperature": 0.9, "top_p": 0.95, "max_gen_toks": 8}

    def texts(seed: int) -> list[str]:
        torch.manual_seed(seed)
        return ours.generate_until(instances("generate_until", [("The sea", options)] * 3))

    assert texts(1) == texts(1) != texts(2)
    assert len(set(texts(1))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": [], "max_gen_toks": 48}, "max_gen_toks: 48 leaves no room .* 48 tokens; pass .*max_gen_toks=24"),
        ({"until": [], "top_pp": 0.9}, "top_pp: there is no such setting of generation; did you mean top_p?"),
        ({"until": [], "do_sample": True, "temperature": 1, "top_p": 1.5}, "top_p"),
    ],
)
def test_options_that_do_not_fit_are_refused(ours: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ours.generate_until(instances("generate_until", [("The sea", options)]))


def test_generation_without_a_length_takes_half_of_a_small_context(ours: Any) -> None:
    (text,) = ours.generate_until(instances("generate_until", [("The sea", {"until": []})]))
    assert len(GPT2Tokenizer().encode(text)) <= 24


def test_responses_are_cached_as_soon_as_they_are_known(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cached: list[Any] = []
    monkeypatch.setattr(ours.cache_hook, "add_partial", lambda *entry: cached.append(entry))
    pair = ("The sea", " is cold")
    (found,) = ours.loglikelihood(instances("loglikelihood", [pair]))
    (total,) = ours.loglikelihood_rolling(instances("loglikelihood_rolling", [("The sea",)]))
    (text,) = ours.generate_until(instances("generate_until", [("The sea", {"until": [], "max_gen_toks": 2})]))
    options = {"until": [], "max_gen_toks": 2}
    assert cached == [
        ("loglikelihood", pair, found),
        ("loglikelihood_rolling", ("The sea",), total),
        ("generate_until", ("The sea", options), text),
    ]


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_chat_template_is_that_of_the_export(saved: tuple[Path, Path], tmp_path: Path, system: str | None) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = shutil.copytree(saved[1], tmp_path / "export")
    template = Template(
        name="turns",
        question="Q: {instruction}\nA:",
        between="\n",
        answer_end="<|im_end|>",
        system=None if system is None else "{system}\n\n",
    )
    chat_template.write(template.to_plain(), folder)
    model, tokenizer = on_checkpoint(folder), transformers.AutoTokenizer.from_pretrained(folder)
    opening = [] if system is None else [{"role": "system", "content": system}]
    turns = [*zip(["user", "assistant"] * 2, ["Who?", " The keeper.", "And where?", " At the"], strict=True)]
    history = [*opening, *({"role": role, "content": content} for role, content in turns)]
    for messages, opens_answer in ((history[:-1], True), (history, False)):
        options = {"add_generation_prompt": opens_answer, "continue_final_message": not opens_answer}
        expected = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        assert model.apply_chat_template(messages, add_generation_prompt=opens_answer) == expected
    assert model.chat_template(True) == tokenizer.chat_template
    if system is None:  # as the hf backend does, the message is left out
        refused = [{"role": "system", "content": "Be brief."}, *history[:-1]]
        assert model.apply_chat_template(refused) == model.apply_chat_template(history[:-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda:0")
def test_device_of_the_harness_that_is_not_there_is_another(saved: tuple[Path, Path]) -> None:
    assert harness.HarnessModel(str(saved[0]), device="cuda:0").device.type in ("cpu", "mps")
    with pytest.raises(UserError, match="device=cuda: not available"):
        harness.HarnessModel(str(saved[0]), device="cuda")


def test_template_of_a_model_without_one_is_refused(ours: Any) -> None:
    with pytest.raises(UserError, match="template"):
        ours.apply_chat_template([{"role": "user", "content": "Who?"}])
    assert ours.chat_template(True) is None


@pytest.mark.slow
def test_command_of_the_harness_finds_the_model(saved: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    """As in an environment in which this package is installed, whose folder has the same .pth file."""
    rows = [{"text": "The sea is", "choices": ["cold", "a stone"], "label": 0}, {"text": "A", "choices": ["B", "C"]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"label": 1, **row}) for row in rows))
    config = {
        "task": "made_up",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "made_up.yaml").write_text(json.dumps(config))
    program = f"""
import site, sys
site.addsitedir({str(root / "lm_eval_plugin")!r})
assert not any(name.startswith(("gpt2_lightning.", "lm_eval.")) for name in sys.modules)
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
"""
    arguments = f"--model gpt2-lightning --model_args checkpoint={saved[0]} --tasks made_up".split()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--include_path", str(tmp_path / "tasks")],
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "|made_up|" in done.stdout
    assert "|acc   |" in done.stdout


@pytest.mark.slow
def test_wheel_contains_the_registration_and_the_entry_point(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=root, check=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert {"gpt2_lightning_lm_eval.py", "gpt2_lightning_lm_eval.pth"} <= set(wheel.namelist())
        (points,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "[lm_eval.models]\ngpt2-lightning = gpt2_lightning.harness:HarnessModel" in points


def test_registration_keeps_the_models_of_the_harness(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api import registry

    monkeypatch.syspath_prepend(root / "lm_eval_plugin")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    registration = importlib.import_module("gpt2_lightning_lm_eval").Registration
    monkeypatch.setattr(registry, "model_registry", registry.Registry("model"))
    assert registration.find_spec("lm_eval.tasks") is None
    assert len(registry.model_registry) == 0
    for _ in range(2):
        assert registration.find_spec("lm_eval.models") is None
        assert registry.model_registry.get("gpt2-lightning") is harness.HarnessModel
    monkeypatch.undo()
    assert registry.get_model("gpt2-lightning") is harness.HarnessModel
    assert registry.get_model("hf").__name__ == "HFLM"
