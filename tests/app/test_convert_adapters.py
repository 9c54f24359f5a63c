"""The verb `convert`, for LoRA adapters: to PEFT and from it, and merged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import ADAPTER, KEY, SCORE, Description, load_model, weights_hash
from gpt2_lightning.conversion import exporters
from gpt2_lightning.huggingface.peft import adapters, verify
from gpt2_lightning.huggingface.peft.adapters import PeftAdapter
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.lora.adapters import adapter_state, add_lora
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from gpt2_lightning.tokenizers import GPT2Tokenizer
from tests.app.made_checkpoints import ONE_OF_THREE, save_adapter, save_base, save_classifier
from tests.huggingface.networks import lively, some_ids
from tests.outcomes import refused

Run = Callable[..., Any]
CPU = torch.device("cpu")
SPEC = LoRASpec(rank=3, alpha=2.0, dropout=0.1, targets=["q", "v", "attn_out"])

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture
def adapted(workplace: Path) -> GPT2:
    """The model whose adapter is tuned.ckpt, over base.ckpt."""
    return save_adapter(workplace / "tuned.ckpt", save_base(workplace / "base.ckpt"), SPEC)


def test_an_adapter_loads_in_peft_with_the_same_logits(run_verb: Run, adapted: GPT2) -> None:
    peft = pytest.importorskip("peft")
    assert run_verb("convert", "source=base.ckpt", "target=base").code == 0
    outcome = run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=me/base")
    assert outcome.code == 0, outcome.err
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, adapted(ids), rtol=0, atol=1e-5)
        assert (adapted(ids) - lively()(ids)).abs().max() > 0.1
    assert re.search(r"12 tensors are the same when read back, bit for bit", outcome.out)
    assert re.search(r"logits over the base in peft: largest difference \d\.\de-1\d", outcome.out)
    assert "for peft over me/base" in outcome.out
    assert json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "me/base"


def test_an_adapter_of_pefts_is_compared_merged_into_its_base(run_verb: Run, adapted: GPT2) -> None:
    assert run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt").code == 0
    outcome = run_verb("compare", "checkpoint=adapter", "prompt=ab", "max_new_tokens=2")
    assert outcome.code == 0, outcome.err
    page = " ".join(outcome.out.split())
    assert "adapter, exported" in page
    assert "Both sides compute the same" in page


def test_without_peft_the_adapter_is_checked_by_our_reader(
    run_verb: Run, adapted: GPT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda name: None)
    outcome = run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt")
    assert outcome.code == 0, outcome.err
    assert "peft is not installed" in outcome.out
    assert "logits over the base when read back: largest difference 0.0e+00" in outcome.out


def test_the_base_has_its_place_for_a_name(run_verb: Run, adapted: GPT2, workplace: Path) -> None:
    assert run_verb("convert", "source=base.ckpt", "target=base").code == 0
    base = f"base={workplace / 'base'}"
    assert run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", base).code == 0
    named = json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(workplace / "base")
    assert run_verb("generate", "checkpoint=adapter", "prompt=a", "max_new_tokens=3").code == 0


@pytest.mark.parametrize(
    ("place", "name"), [("hf:gpt2@0123abcd", "gpt2"), ("hf:me/model", "me/model"), ("runs/x", None)]
)
def test_a_model_of_the_hub_is_called_as_it_is_there(place: str, name: str | None) -> None:
    assert exporters.name_on_the_hub(place) == name


def test_a_base_that_peft_cannot_load_needs_a_name(
    run_verb: Run, adapted: GPT2, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = ["convert", "source=tuned.ckpt", "target=adapter", "to=peft"]
    place = workplace / "base.ckpt"
    first = f"convert source={place} target=FOLDER"
    refused(run_verb(*command), f"base_name: missing; the base of the adapter is {place}", first, "base_name=FOLDER")
    assert not Path("adapter").exists()
    assert run_verb(*first.replace("FOLDER", "folder").split()).code == 0
    assert run_verb(*command, "base_name=folder").code == 0
    with torch.no_grad():
        logits = peft.AutoPeftModelForCausalLM.from_pretrained("adapter")(some_ids()).logits
        torch.testing.assert_close(logits, adapted(some_ids()), rtol=0, atol=1e-5)


def test_a_base_that_was_moved_is_named(run_verb: Run, adapted: GPT2, workplace: Path) -> None:
    (workplace / "base.ckpt").rename(workplace / "moved.ckpt")
    refused(
        run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt"),
        "base.ckpt",
        "base=",
    )
    outcome = run_verb(
        "convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base=moved.ckpt", "base_name=me/base"
    )
    assert outcome.code == 0, outcome.err
    assert "is merged into moved.ckpt" in outcome.out


def test_a_folder_for_transformers_has_the_adapter_merged_in(run_verb: Run, adapted: GPT2) -> None:
    outcome = run_verb("convert", "source=tuned.ckpt", "target=merged")
    assert outcome.code == 0, outcome.err
    assert "its LoRA adapter is merged into" in outcome.out
    ids = some_ids()
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained("merged")(ids).logits
        torch.testing.assert_close(logits, adapted(ids), rtol=0, atol=1e-5)


def test_a_checkpoint_of_a_lora_run_is_merged_and_needs_no_base(run_verb: Run, adapted: GPT2, workplace: Path) -> None:
    outcome = run_verb("convert", "source=tuned.ckpt", "target=whole.ckpt", "to=gpt2_lightning")
    assert outcome.code == 0, outcome.err
    (workplace / "base.ckpt").unlink()
    model, description = load_model(workplace / "whole.ckpt", CPU)
    assert description.task == {}
    with torch.no_grad():
        torch.testing.assert_close(model(some_ids()), adapted(some_ids()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", [["q", "v", "attn_out"], ["qkv", "head"]])
def test_an_adapter_there_and_back_is_the_same_alone(run_verb: Run, workplace: Path, targets: list[str]) -> None:
    spec = LoRASpec(rank=3, alpha=2.0, targets=targets)
    save_adapter(workplace / "tuned.ckpt", save_base(workplace / "base.ckpt"), spec)
    assert run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=me/base").code == 0
    outcome = run_verb("convert", "source=adapter", "base=base.ckpt", "target=back.ckpt")
    assert outcome.code == 0, outcome.err
    assert "only the adapter" in outcome.out
    before, after = files.read(workplace / "tuned.ckpt"), files.read(workplace / "back.ckpt")
    assert before["state_dict"].keys() == after["state_dict"].keys()
    assert all(torch.equal(before["state_dict"][key], tensor) for key, tensor in after["state_dict"].items())
    one, other = (content[KEY]["task"][ADAPTER] for content in (before, after))
    assert one == other
    assert before[KEY]["model"] == after[KEY]["model"]


def test_an_adapter_that_peft_made_computes_the_same_here(run_verb: Run, workplace: Path) -> None:
    peft = pytest.importorskip("peft")
    save_base(workplace / "base.ckpt")
    assert run_verb("convert", "source=base.ckpt", "target=base").code == 0
    torch.manual_seed(5)
    layers = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, **layers)
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), settings).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.25)
    theirs.save_pretrained("theirs")
    outcome = run_verb("convert", "source=theirs", "target=ours.ckpt", "base=base")
    assert outcome.code == 0, outcome.err
    assert re.search(r"logits over the base in peft: largest difference \d\.\de-1\d", outcome.out)
    with torch.no_grad():
        logits = load_pretrained("ours.ckpt").model(some_ids())
        torch.testing.assert_close(logits, theirs(some_ids()).logits, rtol=0, atol=1e-5)


def test_a_classifiers_adapter_loads_in_peft_with_the_same_scores(run_verb: Run, workplace: Path) -> None:
    peft = pytest.importorskip("peft")
    base = save_base(workplace / "base.ckpt")
    save_adapter(workplace / "tuned.ckpt", base, SPEC, task=ONE_OF_THREE)
    assert run_verb("convert", "source=base.ckpt", "target=base").code == 0
    outcome = run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt")
    assert outcome.code == 0, outcome.err
    assert "scores over the base in peft" in outcome.out
    network = AutoModelForSequenceClassification.from_pretrained("base", num_labels=3, pad_token_id=22)
    loaded = peft.PeftModel.from_pretrained(network, "adapter").eval()
    ids = some_ids() % 22
    with torch.no_grad():
        expected = load_pretrained("tuned.ckpt").classifier()(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(loaded(ids).logits, expected, rtol=0, atol=1e-5)


def test_the_labels_of_a_classifiers_adapter_are_those_of_its_base(run_verb: Run, workplace: Path) -> None:
    save_classifier(workplace / "spam.ckpt")
    save_adapter(workplace / "tuned.ckpt", workplace / "spam.ckpt", SPEC, task=ONE_OF_THREE)
    save_base(workplace / "base.ckpt")
    assert run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt").code == 0
    assert run_verb("convert", "source=adapter", "target=back.ckpt", "base=spam.ckpt").code == 0
    assert run_verb("convert", "source=adapter", "target=unnamed.ckpt", "base=base.ckpt").code == 0
    before, after, unnamed = (files.read(Path(f"{name}.ckpt")) for name in ("tuned", "back", "unnamed"))
    assert before[KEY]["task"] == after[KEY]["task"]
    assert unnamed[KEY]["task"]["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert torch.equal(before["state_dict"][SCORE], unnamed["state_dict"][SCORE])


@pytest.mark.parametrize("fault", ["a wrong strength", "a wrong weight"])
def test_an_adapter_that_is_written_wrongly_is_noticed(
    run_verb: Run, adapted: GPT2, workplace: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right = adapters.write

    def wrong(adapter: PeftAdapter, folder: Path) -> None:
        state = {key: tensor.clone() for key, tensor in adapter.state.items()}
        if fault == "a wrong weight":
            state["h.1.attn.c_attn.lora_B.v"][0, 0] += 1e-6
            right(PeftAdapter(adapter.spec, state), folder)
        else:
            right(PeftAdapter(LoRASpec(rank=3, alpha=2.0001, targets=SPEC.targets), state), folder)

    monkeypatch.setattr(adapters, "write", wrong)
    outcome = run_verb("convert", "source=tuned.ckpt", "target=adapter", "to=peft", "base_name=base.ckpt")
    refused(outcome, "h.1.attn.c_attn.lora_B.v" if fault == "a wrong weight" else "differ by up to")
    assert not (workplace / "adapter").exists()


def test_what_does_not_go_together_is_told(run_verb: Run, adapted: GPT2, workplace: Path) -> None:
    refused(
        run_verb("convert", "source=base.ckpt", "target=a", "to=peft"),
        "base.ckpt has no LoRA adapter; to=peft is for a run that was fine-tuned with lora=",
    )
    command = ["source=tuned.ckpt", "target=a"]
    refused(run_verb("convert", *command, "to=peft", "dtype=bf16"), "dtype: bf16 does not fit an adapter")
    refused(run_verb("convert", *command, "base_name=me/base"), "base_name: it is written with to=peft alone")
    (workplace / "a").mkdir()
    (workplace / "a" / "notes.txt").touch()
    refused(run_verb("convert", *command, "to=peft", "overwrite=true"), "notes.txt, which no conversion wrote")
    assert run_verb("convert", "source=tuned.ckpt", "target=b", "to=peft", "base_name=me/base").code == 0
    assert (
        run_verb("convert", "source=tuned.ckpt", "target=b", "to=peft", "base_name=me/base", "overwrite=true").code == 0
    )


def test_an_adapter_of_gpt2s_attention_takes_less_than_3_mb(tmp_path: Path) -> None:
    """Rank 8, as `lora=attention` has it: 12 layers of (768 + 3 * 768 + 768 + 768) * 8 numbers of four bytes."""
    config, spec = GPT2Config(), LoRASpec(rank=8, alpha=16.0, targets=["qkv", "attn_out"])
    with torch.device("meta"):
        model = GPT2(config)
        add_lora(model, spec)
    state = {key: torch.zeros(tensor.shape) for key, tensor in adapter_state(model).items()}
    assert sum(tensor.nbytes for tensor in state.values()) == 12 * (768 + 3 * 768 + 768 + 768) * 8 * 4 == 1_769_472
    adapters.write(PeftAdapter(spec, state), tmp_path / "adapter")
    adapter = TrainedAdapter(spec, state, "base.ckpt", weights_hash(torch.nn.Linear(2, 3)))
    description = Description(config, GPT2Tokenizer(), {}, {ADAPTER: adapter.to_plain()})
    files.write({"state_dict": adapter.tensors(), KEY: description.to_plain()}, tmp_path / "adapter.ckpt")
    assert sum(file.stat().st_size for file in (tmp_path / "adapter").iterdir()) < 1_800_000
    assert (tmp_path / "adapter.ckpt").stat().st_size < 1_900_000
