"""The verb `convert`."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, Description, load_model, weights_alone
from gpt2_lightning.conversion import verify as conversion_check
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, verify
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.positions import POSITIONS
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import CONFIG, lively, mingpt, nanogpt, nanogpt_checkpoint, some_ids
from tests.model.rotary import Rotary
from tests.outcomes import refused

Run = Callable[..., object]
LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")
CPU = torch.device("cpu")


def our_checkpoint(path: Path, model: GPT2 | None = None) -> Path:
    model = model or lively()
    files.write(weights_alone(model, Description(model.config, LETTERS, {"seed": 3})), path)
    return path


def same_tensors(found: GPT2, expected: GPT2) -> bool:
    one, other = found.state_dict(), expected.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def ours(workplace: Path) -> Path:
    return our_checkpoint(workplace / "ours.ckpt")


@pytest.fixture
def theirs(workplace: Path) -> Path:
    folder.write(lively(), LETTERS, workplace / "theirs", "# A card\n", 10**9)
    return workplace / "theirs"


@pytest.fixture
def letters(workplace: Path) -> Path:
    (workplace / "letters.txt").write_text(LETTERS.alphabet)
    return workplace / "letters.txt"


def test_a_run_becomes_a_folder_that_transformers_loads(run_verb: Run, tiny_run: Path) -> None:
    outcome = run_verb("convert", f"source={tiny_run}", "target=model")
    assert outcome.code == 0, outcome.err
    model, description = load_model(tiny_run / "checkpoints" / "best.ckpt", CPU)
    ids = torch.tensor([description.tokenizer.encode("the ship goes").tolist()])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained("model")(ids).logits
        torch.testing.assert_close(logits, model(ids), rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained("model")("the ship goes")["input_ids"] == ids[0].tolist()


@pytest.mark.parametrize("end_of_text", [True, False])
def test_a_tokenizer_without_an_end_of_text_is_told(run_verb: Run, workplace: Path, end_of_text: bool) -> None:
    tokenizer = CharTokenizer(LETTERS.alphabet[end_of_text:], end_of_text=end_of_text)
    files.write(weights_alone(lively(), Description(CONFIG, tokenizer, {})), workplace / "a.ckpt")
    outcome = run_verb("convert", "source=a.ckpt", "target=model")
    assert ("has no end-of-text token" in outcome.out) == (not end_of_text)
    assert ("eos_token" in json.loads(Path("model/tokenizer_config.json").read_text())) == end_of_text


def test_the_comparison_is_told(run_verb: Run, ours: Path) -> None:
    out = run_verb("convert", f"source={ours}", "target=model").out
    assert "wrote model, " in out
    assert re.search(r"model\.safetensors +\d+,\d+ bytes|model\.safetensors +\d+\.\d MB", out)
    assert "checked on 2 x 13 random tokens, in float64" in out
    assert "28 tensors are the same when read back, bit for bit" in out
    assert re.search(r"logits in transformers: largest difference \d\.\de-1\d", out)
    assert "23 tokens of the tokenizer are the same" in out


def test_the_card_has_the_figures_of_the_checkpoints_step(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    run_verb("convert", f"source={tiny_run / 'checkpoints' / 'step-000012.ckpt'}", "target=model")
    card = (workplace / "model" / "README.md").read_text()
    rows = [line.split(",") for line in (tiny_run / "metrics.csv").read_text().splitlines()]
    (last,) = [row for row in rows if row[0] == "12" and row[rows[0].index("val/loss")]]
    loss = float(last[rows[0].index("val/loss")])
    assert "| optimizer steps | 12 |" in card
    assert f"| validation loss, nats per token | {loss:.4f} |" in card
    assert "| batch_size | 4 |" in card
    assert "| data.path | small.txt |" in card
    assert str(tiny_run) not in card


def test_the_card_of_rounded_weights_says_that_its_figures_are_of_others(
    run_verb: Run, tiny_run: Path, workplace: Path
) -> None:
    for dtype in ("fp32", "bf16"):
        assert run_verb("convert", f"source={tiny_run}", f"target={dtype}", f"dtype={dtype}").code == 0
    assert "measured in float32, before" in (workplace / "bf16" / "README.md").read_text()
    assert "measured in" not in (workplace / "fp32" / "README.md").read_text()


def test_there_and_back_gives_the_same_tensors(run_verb: Run, ours: Path, workplace: Path) -> None:
    assert run_verb("convert", f"source={ours}", "target=model").code == 0
    assert run_verb("convert", "source=model", "target=back.ckpt").code == 0
    model, description = load_model(workplace / "back.ckpt", CPU)
    assert same_tensors(model, lively())
    assert model.config == CONFIG
    assert description.run_config == {"origin": {"program": "Hugging Face", "source": "model"}}


def test_generate_reads_what_was_converted(run_verb: Run, theirs: Path) -> None:
    assert run_verb("convert", f"source={theirs}", "target=a.ckpt").code == 0
    outcome = run_verb("generate", "checkpoint=a.ckpt", "prompt=fed", "max_new_tokens=5", "temperature=0")
    assert outcome.code == 0, outcome.err
    assert re.fullmatch(r"fed[a-v ]{5}\n", outcome.out)


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_weights_are_rounded_on_request_and_that_is_told(
    run_verb: Run, ours: Path, workplace: Path, name: str, dtype: torch.dtype
) -> None:
    out = run_verb("convert", f"source={ours}", "target=half", f"dtype={name}").out
    assert AutoModelForCausalLM.from_pretrained("half", dtype="auto").dtype == dtype
    (difference,) = re.findall(rf"rounded from float32 to {conversion_check.dtype_name(dtype)}: .* by up to (\S+)", out)
    assert 1e-4 < float(difference) < 1
    out = run_verb("convert", "source=half", "target=half.ckpt").out
    assert "rounded" not in out
    assert load_model(workplace / "half.ckpt", CPU)[0].wte.weight.dtype == dtype
    assert "by up to 0.0e+00" in run_verb("convert", "source=half", "target=wide.ckpt", "dtype=fp32").out


def test_weights_that_a_dtype_cannot_hold_are_listed(run_verb: Run, workplace: Path) -> None:
    model = lively()
    with torch.no_grad():
        model.ln_f.weight[3] = 1e6
    our_checkpoint(workplace / "large.ckpt", model)
    refused(run_verb("convert", "source=large.ckpt", "target=m", "dtype=fp16"), "overflow", "ln_f.weight: 1 of 35")
    assert not (workplace / "m").exists()


def test_nanogpts_checkpoint_becomes_one_of_ours_with_its_gelu(run_verb: Run, workplace: Path, letters: Path) -> None:
    torch.save(nanogpt_checkpoint(nanogpt(), CONFIG), workplace / "ckpt.pt")
    outcome = run_verb("convert", "source=ckpt.pt", "target=nano.ckpt", f"tokenizer_from={letters}")
    assert outcome.code == 0, outcome.err
    assert "GELU it was trained with; the exact one is assumed" in outcome.out
    model, description = load_model(workplace / "nano.ckpt", CPU)
    with torch.no_grad():
        torch.testing.assert_close(model(some_ids()), nanogpt()(some_ids()), rtol=0, atol=1e-5)
    assert description.run_config["origin"]["steps"] == 250
    assert description.tokenizer.to_text() == LETTERS.to_text()


def test_nanogpts_checkpoint_becomes_a_folder_at_once(run_verb: Run, workplace: Path) -> None:
    torch.save(nanogpt_checkpoint(nanogpt(bias=False), CONFIG, bias=False), workplace / "ckpt.pt")
    outcome = run_verb("convert", "source=ckpt.pt", "target=nano", "to=huggingface")
    assert outcome.code == 0, outcome.err
    assert "none is known; none is written" in outcome.out
    assert "its layers have no biases" in outcome.out
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained("nano")(some_ids()).logits
        expected = nanogpt(bias=False)(some_ids())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert not (workplace / "nano" / "tokenizer.json").exists()
    card = (workplace / "nano" / "README.md").read_text()
    assert "| best validation loss in nanoGPT, nats per token | 1.7500 |" in card


def test_mingpts_state_dict_is_converted(run_verb: Run, workplace: Path, letters: Path) -> None:
    torch.save(mingpt().state_dict(), workplace / "model.pt")
    command = ["source=model.pt", "target=min.ckpt", f"tokenizer_from={letters}"]
    refused(run_verb("convert", *command), "number of heads", "add n_head=NUMBER")
    assert run_verb("convert", *command, "n_head=5").code == 0
    with torch.no_grad():
        logits = load_model(workplace / "min.ckpt", CPU)[0](some_ids())
    torch.testing.assert_close(logits, mingpt()(some_ids()), rtol=0, atol=1e-5)


def test_the_trained_sorter_sorts_after_conversion(run_verb: Run, shared_data: Path, workplace: Path) -> None:
    (workplace / "digits.txt").write_text("012")
    source = shared_data / "gpt-nano-sort" / "gpt-nano-sort-model.json"
    assert run_verb("convert", f"source={source}", "target=sort.ckpt", "tokenizer_from=digits.txt").code == 0
    outcome = run_verb("generate", "checkpoint=sort.ckpt", "prompt=201120", "max_new_tokens=5", "temperature=0")
    assert outcome.out.strip() == "20112000112"


def test_shards_and_settings_of_size(run_verb: Run, ours: Path, workplace: Path) -> None:
    assert run_verb("convert", f"source={ours}", "target=model", "max_shard_size=40KB").code == 0
    assert len(list((workplace / "model").glob("model-*-of-*.safetensors"))) > 2
    refused(run_verb("convert", f"source={ours}", "target=m", "max_shard_size=large"), "max_shard_size: 'large'", "5GB")


@pytest.mark.parametrize("to", ["huggingface", "gpt2_lightning"])
def test_what_exists_is_replaced_on_request_alone(
    run_verb: Run, ours: Path, theirs: Path, workplace: Path, to: str
) -> None:
    source, target = (ours, theirs) if to == "huggingface" else (theirs, ours)
    weights = theirs / "model.safetensors" if to == "huggingface" else ours
    weights.touch()
    before = weights.stat().st_mtime_ns
    refused(run_verb("convert", f"source={source}", f"target={target}"), "exists", "overwrite=true")
    assert weights.stat().st_mtime_ns == before
    assert run_verb("convert", f"source={source}", f"target={target}", "overwrite=true").code == 0
    assert weights.stat().st_mtime_ns > before
    assert sorted(file.name for file in workplace.iterdir()) == ["ours.ckpt", "theirs"]


def test_a_folder_that_holds_runs_is_told_with_the_newest(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = run_verb("convert", f"source={tiny_run.parent.parent}", "target=model")
    refused(outcome, f"source: the folder {tiny_run.parent.parent} holds runs", f"the newest is source={tiny_run}\n")
    (workplace / "empty").mkdir()
    refused(run_verb("convert", "source=empty", "target=model"), "source: the folder empty holds no checkpoint")
    refused(run_verb("generate", "checkpoint=empty"), "checkpoint: the folder empty holds no checkpoint")
    refused(run_verb("convert", "source=latest", "target=model"), "or name one with source=PATH")


def test_a_folder_is_put_back_before_it_is_looked_for(run_verb: Run, ours: Path, theirs: Path) -> None:
    theirs.rename(theirs.with_name(".theirs.71.old"))  # as a command leaves it that was killed
    refused(run_verb("convert", f"source={ours}", f"target={theirs}"), "exists", "overwrite=true")
    assert (theirs / "model.safetensors").is_file()


def test_a_folder_may_be_converted_in_its_place(run_verb: Run, theirs: Path) -> None:
    outcome = run_verb("convert", "source=theirs", "target=theirs", "to=huggingface", "dtype=bf16", "overwrite=true")
    assert outcome.code == 0, outcome.err
    assert json.loads((theirs / "config.json").read_text())["dtype"] == "bfloat16"


def test_nothing_is_destroyed_by_a_conversion_that_fails(
    run_verb: Run, ours: Path, theirs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: the folder that is written has one wrong weight."""
    right = folder.write
    before = {file.name: file.read_bytes() for file in theirs.iterdir()}

    def wrong(model: GPT2, *rest: object, **named: object) -> None:
        with torch.no_grad():
            planted = GPT2(model.config)
            planted.load_state_dict(model.state_dict())
            planted.h[1].mlp.c_fc.weight[0, 0] += 1e-6
        right(planted, *rest, **named)

    monkeypatch.setattr(folder, "write", wrong)
    outcome = run_verb("convert", f"source={ours}", f"target={theirs}", "overwrite=true")
    refused(outcome, f"{theirs}: tensors read back differ", "transformer.h.1.mlp.c_fc.weight")
    assert {file.name: file.read_bytes() for file in theirs.iterdir()} == before
    assert sorted(file.name for file in workplace.iterdir()) == ["ours.ckpt", "theirs"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_conversion_leaves_nothing(
    run_verb: Run, ours: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    right = folder.write

    def stopped(*arguments: object, **others: object) -> None:
        right(*arguments, **others)
        signal.raise_signal(number)

    monkeypatch.setattr(folder, "write", stopped)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # which would let it go on
    try:
        assert run_verb("convert", f"source={ours}", "target=there").code == 128 + number
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert [file.name for file in workplace.iterdir()] == ["ours.ckpt"]


def test_a_reader_that_is_wrong_is_noticed(run_verb: Run, theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: queries and keys are exchanged in reading."""
    right = folder.from_huggingface

    def wrong(weights: dict[str, torch.Tensor], config: GPT2Config) -> GPT2:
        model = right(weights, config)
        with torch.no_grad():
            q, k, v = model.h[0].attn.c_attn.weight.clone().chunk(3)
            model.h[0].attn.c_attn.weight.copy_(torch.cat((k, q, v)))
        return model

    monkeypatch.setattr(folder, "from_huggingface", wrong)
    refused(run_verb("convert", f"source={theirs}", "target=a.ckpt"), "differ by up to")


def test_a_folder_with_other_files_is_not_replaced(run_verb: Run, ours: Path, theirs: Path) -> None:
    (theirs / "thesis.tex").write_text("years of work")
    outcome = run_verb("convert", f"source={ours}", f"target={theirs}", "overwrite=true")
    refused(outcome, "thesis.tex, which no conversion wrote", "name another folder")
    assert (theirs / "thesis.tex").read_text() == "years of work"


def test_a_file_that_is_no_checkpoint_is_not_replaced(run_verb: Run, theirs: Path, workplace: Path) -> None:
    thesis = workplace / "thesis.tex"
    thesis.write_text("years of work")
    outcome = run_verb("convert", f"source={theirs}", f"target={thesis}", "overwrite=true")
    refused(outcome, "thesis.tex is not a checkpoint", "name another file")
    assert thesis.read_text() == "years of work"


def test_a_file_and_a_folder_do_not_replace_each_other(run_verb: Run, ours: Path, theirs: Path) -> None:
    refused(run_verb("convert", f"source={ours}", f"target={ours}", "overwrite=true"), "is a file")
    refused(run_verb("convert", f"source={theirs}", f"target={theirs}", "overwrite=true"), "is a folder")


def test_a_link_to_a_folder_is_followed(run_verb: Run, ours: Path, theirs: Path, workplace: Path) -> None:
    (workplace / "link").symlink_to(theirs)
    assert run_verb("convert", f"source={ours}", "target=link", "overwrite=true").code == 0
    assert (workplace / "link").is_symlink()
    assert len(list(workplace.iterdir())) == 3


def test_without_transformers_the_folder_is_checked_by_our_reader(
    run_verb: Run, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda name: None)
    outcome = run_verb("convert", f"source={ours}", "target=model")
    assert outcome.code == 0
    assert "transformers is not installed" in outcome.out
    assert "logits when read back: largest difference 0.0e+00" in outcome.out


@pytest.mark.parametrize("to", ["huggingface", "gpt2_lightning"])
def test_positions_that_gpt2_lacks_there_are_refused_by_their_name(
    run_verb: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setitem(POSITIONS, "rotary", Rotary)
    our_checkpoint(workplace / "rotary.ckpt", lively(dataclasses.replace(CONFIG, n_embd=40, positions="rotary")))
    outcome = run_verb("convert", "source=rotary.ckpt", "target=there", f"to={to}")
    if to == "gpt2_lightning":
        assert outcome.code == 0
        return
    refused(outcome, "transformers' GPT-2 has no rotary positions, only learned and sinusoidal")
    assert ".tmp" not in outcome.err
    assert not (workplace / "there").exists()


def test_messages_of_a_failed_conversion_name_the_target(
    run_verb: Run, ours: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(weights: object, path: Path, *_: object) -> None:
        raise UserError(f"{path} is wrong")

    monkeypatch.setattr(folder, "write", lambda model, tokenizer, path, *args, **named: fail(model, path))
    refused(run_verb("convert", f"source={ours}", "target=there"), f"{workplace / 'there'} is wrong")


def test_sinusoidal_positions_are_converted_exactly(run_verb: Run, workplace: Path) -> None:
    model = lively(dataclasses.replace(CONFIG, positions="sinusoidal", qkv_bias=False))
    our_checkpoint(workplace / "waves.ckpt", model)
    assert run_verb("convert", "source=waves.ckpt", "target=waves").code == 0
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained("waves")(some_ids()).logits
        torch.testing.assert_close(logits, model(some_ids()), rtol=0, atol=1e-5)


def test_a_checkpoint_keeps_no_more_than_it_needs(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    outcome = run_verb("convert", f"source={tiny_run}", "target=small.ckpt", "to=gpt2_lightning")
    assert outcome.code == 0, outcome.err
    assert set(files.read(workplace / "small.ckpt")) == {"state_dict", KEY}
    assert load_model(workplace / "small.ckpt", CPU)[1].run_config["batch_size"] == 4


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["source: missing", "target: missing"]),
        (["source=gpt2", "target=a"], ["there is no run, checkpoint or folder gpt2", "hf:gpt2@REVISION"]),
        (["source=", "target=a"], ["source: it is empty"]),
        (["source=hf:a/b/c", "target=a"], ["hf:a/b/c", "hf:NAME@REVISION"]),
        (["source=a", "target=b", "n_head=0"], ["n_head: 0 is out of range, 1 or more is allowed"]),
        (["source=a", "target=b", "dtype=int8"], ["dtype: 'int8'", "'bf16'"]),
        (["source=a", "target=b", "to=onnx"], ["to: 'onnx'", "'huggingface'"]),
        (["source=a", "target=b", "tokenizer_from=none.txt"], ["tokenizer_from: none.txt cannot be read"]),
    ],
)
def test_faults_in_the_command(run_verb: Run, workplace: Path, arguments: list[str], fragments: list[str]) -> None:
    refused(run_verb("convert", *arguments), *fragments)
    assert not list(workplace.iterdir())
