"""The Python API: the command line's texts, transformers' ids, and README's examples in a folder elsewhere."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

import gpt2_lightning as g
from gpt2_lightning.api.settings import GenerationOptions
from gpt2_lightning.app.config.schema import settings_of_verb
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.data.instruction.templates import Template
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.devices import require_quantizable
from gpt2_lightning.tokenizers import CharTokenizer
from tests.app.made_checkpoints import LETTERS, save_adapter, save_base, save_classifier
from tests.huggingface.networks import CONFIG, lively, some_ids
from tests.outcomes import Outcome

Run = Callable[..., Outcome]
README = Path(__file__).parent.parent / "README.md"
ASCII = CharTokenizer("".join(map(chr, range(32, 127))) + "\n", end_of_text=True)
VOCABULARY = 97


@pytest.fixture
def checkpoint(workplace: Path) -> Path:
    """A random model of the letters a to v, on the working folder's ground."""
    return save_base(workplace / "base.ckpt")


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    """A tiny GPT-2 of transformers, with weights so large that a text depends on all that was read."""
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "n_positions": 31, "n_embd": 12, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**shape, initializer_range=0.4, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "eager"
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def ours(theirs: GPT2LMHeadModel, tmp_path_factory: pytest.TempPathFactory) -> g.LanguageModel:
    """The same model, loaded from the folder that transformers saved."""
    folder = tmp_path_factory.mktemp("model")
    theirs.save_pretrained(folder)
    return g.load(folder, device="cpu")


def answered(outcome: Outcome, prompt: str) -> str:
    """What the command line generated after a prompt."""
    assert outcome.code == 0, outcome.err
    return outcome.out.removeprefix(prompt).removesuffix("\n")


# --- texts ---


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 20, "seed": 3},
        {"max_new_tokens": 9, "temperature": 0.5, "top_k": 5, "repetition_penalty": 1.3},
        {"max_new_tokens": 9, "temperature": 0, "n_beams": 3},
        {"max_new_tokens": 30, "ignore_end_of_text": True, "stop": ["a", "b"]},
    ],
)
def test_a_text_is_that_of_the_command_line(checkpoint: Path, run_verb: Run, settings: dict[str, Any]) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    outcome = run_verb("generate", f"checkpoint={checkpoint}", "prompt=cab", *words)
    model = g.load(checkpoint)
    text = model.generate("cab", **settings)
    assert text == answered(outcome, "cab")
    assert text
    if "n_beams" not in settings:
        assert "".join(model.stream("cab", **settings)) == text


def test_defaults_are_those_of_the_command_line() -> None:
    shown = {name: setting.default for name, setting in settings_of_verb("generate").items()}
    defaults = dataclasses.asdict(g.GenerationSettings())
    assert {name: shown[name] for name in defaults} == defaults


def test_keyword_arguments_are_the_fields_of_the_settings() -> None:
    fields = typing.get_type_hints(g.GenerationSettings)
    assert typing.get_type_hints(GenerationOptions) == {name: fields[name] for name in fields if name != "num_samples"}


def test_several_prompts_and_samples(checkpoint: Path) -> None:
    model = g.load(checkpoint)
    one, _ = model.generate(["cab", "a"], max_new_tokens=9, seed=5)
    assert one == model.generate("cab", max_new_tokens=9, seed=5)
    samples = model.generate("cab", num_samples=2, max_new_tokens=9, seed=5)
    assert samples[0] == one
    assert samples[0] != samples[1]
    (completions,) = model.completions(["cab"], num_samples=2, max_new_tokens=9, seed=5, log_probabilities=0)
    assert [completion.text for completion in completions] == samples
    assert model.generate("cab", max_new_tokens=9, seed=completions[1].seed or 0) == samples[1]
    assert all(token.log_probability is not None for token in completions[0].tokens)


def test_settings_may_come_as_an_object(checkpoint: Path) -> None:
    model, settings = g.load(checkpoint), g.GenerationSettings(max_new_tokens=5, temperature=0)
    assert model.generate("cab", settings=settings) == model.generate("cab", max_new_tokens=5, temperature=0)
    assert model.generate("cab", settings=settings, seed=1, temperature=2) != model.generate("cab", settings=settings)


def test_a_model_trained_on_instructions_answers_in_its_template(workplace: Path, run_verb: Run) -> None:
    template = Template(name="roles", question="{instruction}e", system="{system}g", between="d")
    task = {"kind": "instruct", "template": template.to_plain()}
    model = lively()
    files.write(weights_alone(model, Description(CONFIG, LETTERS, {}, task)), workplace / "chat.ckpt")
    loaded = g.load("chat.ckpt")
    bare = g.LanguageModel(lively(), LETTERS)
    given = {"max_new_tokens": 6, "temperature": 0}
    assert loaded.generate("ab", **given) == bare.generate("abe", **given) != bare.generate("ab", **given)
    assert loaded.generate("ab", raw=True, **given) == bare.generate("ab", **given)
    assert loaded.generate("ab", system="f", **given) == bare.generate("fgabe", **given)
    outcome = run_verb("generate", "checkpoint=chat.ckpt", "prompt=ab", "max_new_tokens=6", "temperature=0")
    assert loaded.generate("ab", **given) == answered(outcome, "")
    with pytest.raises(g.UserError, match="system: "):
        bare.generate("ab", system="f")
    with pytest.raises(g.UserError, match=r"special_tokens: .* encoded as text"):
        loaded.generate("ab", special_tokens=True)
    assert loaded.generate("ab", raw=True, special_tokens=True, **given) == bare.generate("ab", **given)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, text: model.generate(text, max_new_tokens=3),
        lambda model, text: "".join(model.stream(text, max_new_tokens=3)),
        lambda model, text: model.logits(text).tolist(),
        lambda model, text: model.loss(text),
        lambda model, text: model.attention(text).tolist(),
    ],
)
def test_characters_that_the_tokenizer_lacks_are_replaced_with_a_warning(
    checkpoint: Path, call: Callable[[g.LanguageModel, str], object]
) -> None:
    model = g.load(checkpoint)
    with pytest.warns(UserWarning, match=r"base\.ckpt: 1 character \('ä'\) .* was replaced by 'a'"):
        found = call(model, "cäb")
    assert found == call(model, "cab")


@pytest.mark.filterwarnings("ignore:.* are not in the tokenizer's alphabet:UserWarning")
def test_special_tokens_in_a_prompt_are_text_unless_they_are_asked_for(
    checkpoint: Path, run_verb: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt = g.load(checkpoint), "cab<|endoftext|>a"
    given = {"max_new_tokens": 9, "temperature": 0}
    words = [f"checkpoint={checkpoint}", *(f"{name}={value}" for name, value in given.items())]

    def after(ids: list[int]) -> str:
        return LETTERS.decode(model.generate(ids, ignore_end_of_text=True, **given)[len(ids) :])

    letters = CharTokenizer.from_fields(LETTERS.fields())
    literal, asked = after(letters.encode(prompt).tolist()), after([2, 0, 1, LETTERS.vocab_size - 1, 0])
    assert literal != asked
    assert model.generate(prompt, ignore_end_of_text=True, **given) == literal
    assert model.generate(prompt, ignore_end_of_text=True, special_tokens=True, **given) == asked
    words.append("ignore_end_of_text=true")
    assert answered(run_verb("generate", *words, f"prompt={prompt}"), prompt) == literal
    assert answered(run_verb("generate", *words, f"prompt={prompt}", "special_tokens=true"), prompt) == asked
    Path("prompts.txt").write_text(prompt)
    assert run_verb("generate", *words, "special_tokens=true", "prompts=prompts.txt", "output=a.jsonl").code == 0
    assert json.loads(Path("a.jsonl").read_text())["answers"][0]["text"] == asked
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{prompt}\n/set special_tokens true\n{prompt}\n"))
    outcome = run_verb("generate", *words, "interactive=true", "cache_dir=cache")
    assert outcome.out == f"{prompt}{literal}\n{prompt}{asked}\n"


# --- ids, compared with transformers ---


@pytest.mark.parametrize(
    ("settings", "their_settings"),
    [
        ({"temperature": 0}, {"do_sample": False}),
        ({"temperature": 0, "repetition_penalty": 1.4}, {"do_sample": False, "repetition_penalty": 1.4}),
        ({"temperature": 0, "n_beams": 3}, {"do_sample": False, "num_beams": 3}),
        ({"temperature": 0.9, "top_k": 20}, {"temperature": 0.9, "top_k": 20}),
        ({"temperature": 1.3, "top_p": 0.8}, {"temperature": 1.3, "top_p": 0.8}),
    ],
)
def test_ids_are_those_of_transformers(
    ours: g.LanguageModel, theirs: GPT2LMHeadModel, settings: dict[str, Any], their_settings: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(2)
    for seed in range(8):
        prompt = torch.randint(VOCABULARY, (1, 1 + seed), generator=generator)
        torch.manual_seed(seed)
        wanted = {"do_sample": True, "top_k": 0, **their_settings}
        expected = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_length=25, pad_token_id=0, **wanted
        )
        assert torch.equal(ours.generate(prompt, max_length=25, seed=seed, **settings), expected)
        assert ours.generate(prompt[0].tolist(), max_length=25, seed=seed, **settings) == expected[0].tolist()
        assert torch.equal(ours.generate(prompt[0], max_length=25, seed=seed, **settings), expected[0])
        array = prompt[0].numpy().astype("uint16")  # as tokenizers encode
        assert torch.equal(ours.generate(array, max_length=25, seed=seed, **settings), expected[0])


def test_a_batch_of_ids_is_padded_with_the_end_of_text(checkpoint: Path) -> None:
    model, end = g.load(checkpoint), LETTERS.end_of_text
    prompts = some_ids()[:, :3]
    found = model.generate(prompts, num_samples=4, max_new_tokens=40, temperature=1.5)
    assert found.shape == (12, found.size(1))
    for row, prompt in zip(found.tolist(), prompts.repeat_interleave(4, dim=0).tolist(), strict=True):
        assert row[:3] == prompt
        after = row[3:]
        if end in after:
            assert set(after[after.index(end) :]) == {end}
    assert any(end in row[3:] for row in found.tolist())


def test_logits_and_attention_are_those_of_transformers(ours: g.LanguageModel, theirs: GPT2LMHeadModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(ids, output_attentions=True)
    torch.testing.assert_close(ours.logits(ids), expected.logits)
    torch.testing.assert_close(ours.logits(ids[1]), expected.logits[1])
    attention = torch.stack(expected.attentions)[:, 1]  # (L, H, T, T)
    torch.testing.assert_close(ours.attention(ids[1]), attention)


def test_loss_is_the_mean_over_all_tokens_but_the_first(ours: g.LanguageModel, theirs: GPT2LMHeadModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 31), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert ours.loss(ids) == pytest.approx(theirs(ids, labels=ids).loss.item(), rel=1e-5)


def test_loss_of_a_long_text_is_that_of_its_windows(ours: g.LanguageModel, theirs: GPT2LMHeadModel) -> None:
    ids = torch.randint(VOCABULARY, (74,), generator=torch.Generator().manual_seed(4))
    total = 0.0
    for start in (0, 31, 62):  # windows of 31 predictions, the last one shorter
        window = ids[start : start + 32]
        with torch.no_grad():
            logits = theirs(window[:-1].unsqueeze(0)).logits[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    assert ours.loss(ids) == pytest.approx(total / 73, rel=1e-5)


# --- saving, loading, classifying ---


@pytest.mark.parametrize("name", ["again.ckpt", "folder"])
def test_a_saved_model_is_the_same(checkpoint: Path, run_verb: Run, name: str) -> None:
    model = g.load(checkpoint)
    saved = model.save(name)
    assert saved == Path(name).absolute()
    again = g.load(saved)
    assert torch.equal(again.logits("cab"), model.logits("cab"))
    outcome = run_verb("generate", f"checkpoint={saved}", "prompt=cab", "max_new_tokens=9")
    assert answered(outcome, "cab") == model.generate("cab", max_new_tokens=9)
    with pytest.raises(g.UserError, match="overwrite"):
        model.save(name)
    model.save(name, overwrite=True)


def test_what_was_changed_in_python_is_saved(checkpoint: Path) -> None:
    model = g.load(checkpoint)
    with torch.no_grad():
        model.network.ln_f.weight.mul_(2)
    assert torch.equal(g.load(model.save("changed.ckpt")).logits("cab"), model.logits("cab"))


def test_an_adapter_is_merged_and_saved_merged(checkpoint: Path, workplace: Path) -> None:
    adapted = save_adapter(workplace / "adapter.ckpt", checkpoint, LoRASpec(rank=2, alpha=4.0, targets=["q", "mlp_up"]))
    model = g.load("adapter.ckpt")
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(model.logits(ids), adapted(ids))
    assert "merged into" in model.notes[0]
    checkpoint.unlink()
    assert torch.equal(g.load(model.save("whole.ckpt")).logits(ids), model.logits(ids))


def test_a_classifier_predicts_what_the_command_line_says(workplace: Path, run_verb: Run) -> None:
    save_classifier(workplace / "spam.ckpt")
    texts = ["abc", "h", "a" * 30]
    Path("texts.txt").write_text("\n".join(texts))
    outcome = run_verb("predict", "checkpoint=spam.ckpt", "texts=texts.txt")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    model = g.load("spam.ckpt")
    found = model.predict(texts)
    assert [(p.text, p.label) for p in found] == [(row["text"], row["label"]) for row in rows]
    for prediction, row in zip(found, rows, strict=True):
        assert prediction.probabilities == pytest.approx(row["probabilities"])
    assert model.predict("abc").label == found[0].label


def test_a_network_of_ones_own(checkpoint: Path) -> None:
    model = g.LanguageModel(g.GPT2(g.GPT2Config(LETTERS.vocab_size, 13, 1, 1, 4)), LETTERS)
    assert isinstance(model.generate("cab", max_new_tokens=3), str)
    assert not model.network.training
    assert model.config.n_embd == 4
    assert model.tokenizer is LETTERS
    assert "n_embd=4" in repr(model)


# --- mistakes ---


@pytest.mark.parametrize("name", ["nothing", "empty", "broken.ckpt", "llama", "text.txt", "other.pt", "hf:a b"])
def test_what_cannot_be_loaded_has_the_message_of_the_command_line(workplace: Path, run_verb: Run, name: str) -> None:
    Path("empty").mkdir()
    Path("broken.ckpt").write_bytes(save_base(workplace / "base.ckpt").read_bytes()[:2000])
    Path("llama").mkdir()
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    Path("llama/config.json").write_text(json.dumps(llama))
    Path("text.txt").write_text("Once upon a time")
    torch.save({"epoch": 3, "weights": torch.ones(2)}, "other.pt")
    with pytest.raises(g.UserError) as caught:
        g.load(name)
    assert run_verb("generate", f"checkpoint={name}").err == f"error: {caught.value}\n"
    if name == "llama":
        assert "llama" in str(caught.value)


def test_latest_without_a_run_has_the_message_of_the_command_line(workplace: Path, run_verb: Run) -> None:
    with pytest.raises(g.UserError) as caught:
        g.load()
    assert run_verb("generate").err == f"error: {caught.value}\n"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model: model.generate("cab", temperature=-1), "temperature: -1"),
        (lambda model: model.generate("cab", top_p=0, n_beams=2), "top_p: 0 .*\ntemperature: "),
        (lambda model: model.generate("cab", stop="a"), "stop: 'a'"),
        (lambda model: model.generate("cab", num_samples=0), "num_samples: 0"),
        (lambda model: model.generate("cab", max_length=3), "max_length: 3 .* 3 tokens"),
        (lambda model: model.generate(["cab", "a"], max_length=9), "max_length: 9 .* 1 to 3 tokens"),
        (lambda model: model.generate("cab", max_length=9, max_new_tokens=2), "max_new_tokens=2"),
        (lambda model: model.generate([]), "ids: "),
        (lambda model: model.generate([1, 23]), "ids: 23 .* 0 to 22"),
        (lambda model: model.generate([1, -2]), "ids: -2"),
        (lambda model: model.generate(torch.ones(3)), "ids: .*float32"),
        (lambda model: model.generate([1], stop=["a"]), "stop: "),
        (lambda model: model.generate([1], special_tokens=True), "special_tokens: "),
        (lambda model: model.stream("cab", num_samples=2), "num_samples=1"),
        (lambda model: model.logits("c" * 14), "14 tokens, .* 13"),
        (lambda model: model.logits(""), "empty"),
        (lambda model: model.loss("c"), "loss: "),
        (lambda model: model.attention(torch.ones(2, 3, dtype=torch.int64)), "attention: 2"),
        (lambda model: model.predict("c"), "classifier"),
    ],
)
def test_a_mistake_in_a_call_is_named(checkpoint: Path, call: Callable[[g.LanguageModel], object], named: str) -> None:
    with pytest.raises(g.UserError, match=named):
        call(g.load(checkpoint))


def test_a_model_without_a_tokenizer_takes_ids_alone(ours: g.LanguageModel) -> None:
    for call in (ours.generate, ours.logits, ours.loss, ours.attention):
        with pytest.raises(g.UserError, match="tokenizer_from="):
            call("text")


@pytest.mark.parametrize(("option", "value"), [("device", "tpu"), ("dtype", "int8")])
def test_unknown_devices_and_dtypes_are_named(checkpoint: Path, option: str, value: str) -> None:
    with pytest.raises(g.UserError, match=f"{option}: '{value}'"):
        g.load(checkpoint, **{option: value})


def test_the_dtype_is_what_is_computed_in(checkpoint: Path) -> None:
    assert g.load(checkpoint, dtype="bf16").logits("cab").dtype == torch.bfloat16


def test_int8_weights_give_nearly_the_same_logits_and_cannot_be_saved(checkpoint: Path, tmp_path: Path) -> None:
    exact, quantized = g.load(checkpoint, device="cpu"), g.load(checkpoint, device="cpu", quantize="int8")
    difference = (quantized.logits("cab") - exact.logits("cab")).norm() / exact.logits("cab").norm()
    assert 1e-5 < difference < 0.1
    with pytest.raises(g.UserError, match="load it without quantize"):
        quantized.save(tmp_path / "int8.ckpt")
    with pytest.raises(g.UserError, match="quantize=int8: activations are float32"):
        g.load(checkpoint, device="cpu", dtype="bf16", quantize="int8")
    with pytest.raises(g.UserError, match="quantize: 'int4'"):
        g.load(checkpoint, quantize="int4")  # type: ignore[arg-type]  # what a user may pass


def test_int8_weights_are_refused_on_other_devices() -> None:
    with pytest.raises(g.UserError, match="the device is cuda; add device=cpu"):
        require_quantizable("int8", torch.device("cuda"), None)


# --- the package ---


def test_importing_the_package_imports_nothing() -> None:
    program = """
import sys
before = set(sys.modules)
import gpt2_lightning
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(name for name in names if name not in sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gpt2_lightning']"


def test_every_exported_name_is_there() -> None:
    for name in g.__all__:
        assert getattr(g, name).__name__ == name
        assert name in dir(g)
    with pytest.raises(AttributeError, match="loud"):
        g.loud  # noqa: B018  # what is asked for is not there
    assert (Path(g.__file__).parent / "py.typed").exists()


WATCH = """
import sys
importers = set()


class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("hydra", "omegaconf"):
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            importers.add(frame.f_globals["__name__"])


sys.meta_path.insert(0, Watch())
"""
"""Collects the modules that import Hydra or omegaconf."""


def examples() -> list[str]:
    """The Python of README's section, block by block."""
    section = re.search(r"^## From Python$(.*?)^## ", README.read_text(), re.M | re.S)
    assert section
    return re.findall(r"^```python\n(.*?)^```$", section[1], re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_runs_in_a_folder_elsewhere_without_hydra(number: int, tmp_path: Path) -> None:
    example = examples()[number]
    assert len(example.splitlines()) <= 12
    run = tmp_path / "runs" / "scifi-char" / "now" / "checkpoints"
    config = g.GPT2Config(ASCII.vocab_size, 32, 2, 2, 16)
    files.write(weights_alone(lively(config), Description(config, ASCII, {})), run / "best.ckpt")
    (tmp_path / "book.txt").write_text("The airlock opened, and the keeper of the lamp went out. " * 200)
    example = example.replace('"hf:gpt2@main"', repr(str(run / "best.ckpt")))  # tests need no network
    program = f"{WATCH}{example}\nprint('hydra' in sys.modules, sorted(importers))\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded, importers = done.stdout.splitlines()[-1].split(" ", 1)
    assert loaded == "False"
    # Lightning's own logger reads hyperparameters by omegaconf wherever that is installed.
    assert all(name.startswith("lightning") for name in json.loads(importers.replace("'", '"')))
