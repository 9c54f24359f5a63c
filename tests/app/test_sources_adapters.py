"""LoRA adapters as sources: found with their base, wherever that is, and refused over another."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.api.load import load
from gpt2_lightning.app.main import main
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import ADAPTER, KEY, weights_hash
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface.peft import adapters
from gpt2_lightning.huggingface.peft.adapters import PeftAdapter
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.pretrained.trained_adapter import TrainedAdapter
from tests.app.made_checkpoints import ONE_OF_THREE, save_adapter, save_base, some_score
from tests.huggingface.networks import CONFIG, lively, some_ids

Run = Callable[..., Any]
CPU = torch.device("cpu")
SPEC = LoRASpec(rank=3, alpha=2.0, targets=["q", "v", "attn_out"])


@pytest.fixture(scope="module")
def tuned(tiny_run: Path, small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base.ckpt and two LoRA runs over it, `one` and `other`; tests work on copies."""
    place = tmp_path_factory.mktemp("tuned")
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", place / "base.ckpt")
    settings = ["task=pretrain", "data=text", f"data.path={small_text}", f"init_from={place / 'base.ckpt'}"]
    short = ["trainer=cpu", "trainer.max_epochs=null", "trainer.max_steps=4", "trainer.val_check_interval=4"]
    common = [*settings, *short, "batch_size=4", "optimizer.lr=0.02", "lora=attention", f"cache_dir={place / 'cache'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["finetune.py"])
        for name, seed in (("one", 1), ("other", 2)):
            with pytest.raises(SystemExit) as stop:
                main("finetune", [*common, f"run_dir={place / name}", f"seed={seed}"])
            assert stop.value.code == 0
    return place


def logits(source: str | Path, base: str | Path | None = None) -> torch.Tensor:
    return load(source, base=None if base is None else str(base), device="cpu").logits("the ship goes over")


def test_several_adapters_over_one_base_are_chosen_by_their_run(tuned: Path) -> None:
    base, one, other = (logits(tuned / name) for name in ("base.ckpt", "one", "other"))
    assert (one - base).abs().max() > 1e-3
    assert (other - base).abs().max() > 1e-3
    assert (one - other).abs().max() > 1e-3


def test_a_base_that_was_moved_is_named_again(tuned: Path, tmp_path: Path) -> None:
    expected = logits(tuned / "one")
    moved = shutil.move(tuned / "base.ckpt", tmp_path / "moved.ckpt")
    try:
        with pytest.raises(UserError) as caught:
            load_pretrained(str(tuned / "one"))
        for part in ("cannot be loaded", str(tuned / "base.ckpt"), "name it with base="):
            assert part in str(caught.value)
        assert torch.equal(logits(tuned / "one", base=moved), expected)
        found = load_pretrained(str(tuned / "one"), LoadOptions(base=str(moved)))
        assert found.adapter is not None
        assert found.adapter.base == str(moved)
        assert found.notes == (f"its LoRA adapter is merged into {moved}",)
    finally:
        shutil.move(moved, tuned / "base.ckpt")


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("generate", ["prompt=abc", "max_new_tokens=2"]),
        ("predict", ["text=abc"]),
        ("explain", ["text=abcdef", "pictures=false"]),
        ("compare", ["prompt=ab", "max_new_tokens=2"]),
    ],
)
def test_every_verb_takes_the_place_of_a_base_that_was_moved(
    run_verb: Run, workplace: Path, verb: str, settings: list[str]
) -> None:
    save_adapter(workplace / "tuned.ckpt", save_base(workplace / "base.ckpt"), SPEC, task=ONE_OF_THREE)
    (workplace / "base.ckpt").rename(workplace / "moved.ckpt")
    refused = run_verb(verb, "checkpoint=tuned.ckpt", *settings)
    assert refused.code == 2
    assert "if it was moved, name it with base=" in refused.err
    outcome = run_verb(verb, "checkpoint=tuned.ckpt", "base=moved.ckpt", *settings)
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_an_adapter_is_trained_on_from_a_base_that_was_moved(
    run_verb: Run, tuned: Path, small_text: Path, tmp_path: Path
) -> None:
    start = ["task=pretrain", "data=text", f"data.path={small_text}", f"init_from={tuned / 'one'}", "plan=true"]
    moved = shutil.move(tuned / "base.ckpt", tmp_path / "moved.ckpt")
    try:
        assert "name it with base=" in run_verb("finetune", *start, "trainer=cpu").err
        outcome = run_verb("finetune", *start, "trainer=cpu", f"base={moved}")
    finally:
        shutil.move(moved, tuned / "base.ckpt")
    assert outcome.code == 0, outcome.err
    assert f"merged into {moved}" in outcome.out


def test_a_base_may_be_named_as_any_source_is(tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "it" / "checkpoints").mkdir(parents=True)
    shutil.copy(tuned / "base.ckpt", tmp_path / "runs" / "it" / "checkpoints" / "step-000012.ckpt")
    found = load_pretrained(str(tuned / "one"), LoadOptions(tmp_path / "runs", base="latest"))
    with torch.no_grad():
        assert torch.equal(found.model(torch.zeros(1, 3).long()), merged(tuned / "one")(torch.zeros(1, 3).long()))


def merged(source: Path) -> GPT2:
    return load_pretrained(str(source)).model


def test_another_base_is_refused_with_both_hashes(tuned: Path, tmp_path: Path) -> None:
    content = files.read(tuned / "base.ckpt")
    content["state_dict"]["h.1.mlp.c_fc.bias"][3] += 1e-6
    files.write(content, tmp_path / "nearly.ckpt")
    found = weights_hash(load_pretrained(str(tmp_path / "nearly.ckpt")).model)
    wanted = weights_hash(load_pretrained(str(tuned / "base.ckpt")).model)
    with pytest.raises(UserError) as caught:
        load_pretrained(str(tuned / "one"), LoadOptions(base=str(tmp_path / "nearly.ckpt")))
    for part in ("a LoRA adapter of another model than", f"the hash {found[:12]}", f"trained on {wanted[:12]}"):
        assert part in str(caught.value)
    assert found[:12] != wanted[:12]


def test_what_a_run_says_of_its_adapter_is_read_and_written_alike(tuned: Path) -> None:
    path = next((tuned / "one" / "checkpoints").glob("step-*.ckpt"))
    content = files.read(path)
    plain = content[KEY]["task"][ADAPTER]
    adapter = TrainedAdapter.from_checkpoint(content["state_dict"], plain, path)
    assert adapter.to_plain() == plain
    assert adapter.tensors().keys() == content["state_dict"].keys()


def test_an_adapter_with_nan_names_what_it_spoils(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.ckpt")
    save_adapter(tmp_path / "adapter.ckpt", base, SPEC)
    content = files.read(tmp_path / "adapter.ckpt")
    content["state_dict"]["h.1.attn.c_proj.adapters.default.lora_B.attn_out"][0, 0] = float("nan")
    files.write(content, tmp_path / "adapter.ckpt")
    with pytest.raises(UserError, match=r"NaN or infinite\n  h\.1\.attn\.c_proj\.weight: 35 of 1,225 values"):
        load_pretrained(str(tmp_path / "adapter.ckpt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": {"rank": 4, "targets": ["q"]}}, r"lora_A\.q: has shape \(3, 35\), needs \(4, 35\)"),
        ({"spec": {"rank": 0}}, "an adapter that this version cannot read.*rank: 0 is out of range"),
        ({"spec": {"ranks": 3}}, "an adapter that this version cannot read.*ranks"),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    base = save_base(tmp_path / "base.ckpt")
    save_adapter(tmp_path / "adapter.ckpt", base, SPEC)
    content = files.read(tmp_path / "adapter.ckpt")
    content[KEY]["task"][ADAPTER] |= change
    files.write(content, tmp_path / "adapter.ckpt")
    with pytest.raises(UserError, match=message):
        load_pretrained(str(tmp_path / "adapter.ckpt"))


def test_a_classifiers_adapter_comes_with_its_head(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.ckpt")
    adapted = save_adapter(tmp_path / "adapter.ckpt", base, SPEC, task=ONE_OF_THREE)
    found = load_pretrained(str(tmp_path / "adapter.ckpt"))
    assert ADAPTER not in found.task
    ids = some_ids()
    with torch.no_grad():
        expected = adapted.features(ids)[:, -1] @ some_score(ONE_OF_THREE, adapted).T
        scores = found.classifier()(ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"base\.ckpt is a language model without a classifier's head"):
        load_pretrained(str(base)).classifier()


def test_a_folder_of_pefts_is_merged_into_the_base_that_is_named(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.ckpt")
    adapted = save_adapter(tmp_path / "adapter.ckpt", base, SPEC)
    adapter = load_pretrained(str(tmp_path / "adapter.ckpt")).adapter
    assert adapter is not None
    for name, stated in (("nameless", None), ("of-the-hub", "me/base"), ("of-a-path", str(base))):
        adapters.write(PeftAdapter(SPEC, adapter.state, stated), tmp_path / name)
    with pytest.raises(UserError, match=r"PEFT adapter of a model that it does not name; name that model with base="):
        load_pretrained(str(tmp_path / "nameless"))
    with pytest.raises(UserError, match=r"PEFT adapter of me/base, .* base="):
        load_pretrained(str(tmp_path / "of-the-hub"))
    named = load_pretrained(str(tmp_path / "of-the-hub"), LoadOptions(base=str(base)))
    with torch.no_grad():
        for found in (named, load_pretrained(str(tmp_path / "of-a-path"))):
            torch.testing.assert_close(found.model(some_ids()), adapted(some_ids()), rtol=0, atol=1e-5)
            assert (found.model(some_ids()) - lively()(some_ids())).abs().max() > 0.1
    assert named.description().model == CONFIG
    assert named.run_config["origin"] == {"program": "PEFT", "source": str(tmp_path / "of-the-hub"), "base": str(base)}


def test_a_base_that_seems_to_be_another_model_is_noted(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.ckpt")
    save_adapter(tmp_path / "adapter.ckpt", base, SPEC)
    adapter = load_pretrained(str(tmp_path / "adapter.ckpt")).adapter
    assert adapter is not None
    with torch.no_grad():
        other = lively()
        other.wpe.weight.add_(0.1)
    save_base(tmp_path / "other.ckpt", other)

    def notes(name: str, base: str) -> str:
        return " ".join(load_pretrained(str(tmp_path / name), LoadOptions(base=str(tmp_path / base))).notes)

    adapters.write(PeftAdapter(SPEC, adapter.state, "me/base.ckpt"), tmp_path / "named")
    assert "me/base.ckpt as the base of the adapter; make sure" in notes("named", "other.ckpt")
    assert "make sure" not in notes("named", "base.ckpt")
    adapters.write(PeftAdapter(SPEC, adapter.state, "elsewhere", base_hash=adapter.base_hash), tmp_path / "hashed")
    assert f"trained on another model, or on this one in another dtype: that has the hash {adapter.base_hash[:12]}" in (
        notes("hashed", "other.ckpt")
    )
    assert "another model" not in notes("hashed", "base.ckpt")
