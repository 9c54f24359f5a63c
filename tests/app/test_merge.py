"""The verb `merge`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2_lightning.app.commands.exchange import merge as verb
from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, SCORE, Description, load_model, weights_alone, weights_hash
from gpt2_lightning.conversion import merge
from gpt2_lightning.huggingface import folder
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.lora.layers import LoRASpec
from gpt2_lightning.tokenizers import CharTokenizer
from tests.app.made_checkpoints import LETTERS, save_adapter, save_base, save_classifier
from tests.huggingface.networks import CONFIG, lively
from tests.outcomes import Outcome, refused

Run = Callable[..., Outcome]
CPU = torch.device("cpu")


def another(seed: int, dtype: torch.dtype = torch.float32, **changes: Any) -> GPT2:
    """A model of other weights, and of another architecture with changes."""
    torch.manual_seed(seed)
    model = GPT2(dataclasses.replace(CONFIG, **changes))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    return model.to(dtype).eval()


def save_other_tokenizer(path: Path) -> None:
    capitals = CharTokenizer("ABCDEFGHIJKLMNOPQRSTUV", end_of_text=True)
    files.write(weights_alone(lively(), Description(CONFIG, capitals, {})), path)


@pytest.fixture
def models(workplace: Path) -> list[GPT2]:
    found = [another(seed) for seed in range(3)]
    for name, model in zip("abc", found, strict=True):
        save_base(workplace / f"{name}.ckpt", model)
    return found


@pytest.mark.parametrize(("typed", "weights"), [((), [1, 1, 1]), (("weights=[3,1,0.5]",), [3, 1, 0.5])])
def test_a_merged_checkpoint_has_the_mean_of_all_weights(
    run_verb: Run, models: list[GPT2], typed: tuple[str, ...], weights: list[float]
) -> None:
    outcome = run_verb("merge", "checkpoints=[a.ckpt,b.ckpt,c.ckpt]", "output=merged.ckpt", *typed)
    assert outcome.code == 0, outcome.err
    merged, description = load_model(Path("merged.ckpt"), CPU)
    for name, tensor in merged.state_dict().items():
        values = np.stack([model.state_dict()[name].double().numpy() for model in models])
        expected = np.tensordot(np.array(weights) / sum(weights), values, axes=1)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=0, atol=6e-8 * float(np.abs(values).max()))
    assert merged.lm_head.weight is merged.wte.weight
    origin = description.run_config["origin"]["merged"]
    assert [origin[str(n)]["sha256"] for n in (1, 2, 3)] == [weights_hash(model, "sha256") for model in models]
    assert [origin[str(n)]["share"] for n in (1, 2, 3)] == pytest.approx([w / sum(weights) for w in weights])
    assert "NumPy's float64 mean up to rounding" in outcome.out
    assert weights_hash(merged, "sha256")[:12] in outcome.out


def test_the_mean_of_a_model_with_itself_is_that_model(run_verb: Run, models: list[GPT2]) -> None:
    assert run_verb("merge", "checkpoints=[a.ckpt,a.ckpt]", "output=merged.ckpt").code == 0
    merged, description = load_model(Path("merged.ckpt"), CPU)
    assert weights_hash(merged) == weights_hash(models[0])
    assert description.run_config["seed"] == 3


def test_a_merged_checkpoint_generates_and_is_exported_with_its_origin(run_verb: Run, models: list[GPT2]) -> None:
    assert run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=merged.ckpt").code == 0
    assert run_verb("generate", "checkpoint=merged.ckpt", "prompt=abc", "max_new_tokens=3").code == 0
    assert run_verb("convert", "source=merged.ckpt", "target=exported").code == 0
    card = Path("exported/README.md").read_text(encoding="utf-8")
    for number, model in enumerate(models[:2], 1):
        assert f"| origin.merged.{number}.sha256 | {weights_hash(model, 'sha256')} |" in card


def test_a_hugging_face_folder_is_merged_with_a_checkpoint(run_verb: Run, models: list[GPT2]) -> None:
    folder.write(models[1], LETTERS, Path("theirs"), "# A card\n", 10**9)
    for second in ("b.ckpt", "theirs"):
        outcome = run_verb("merge", f"checkpoints=[a.ckpt,{second}]", f"output=with-{second}.ckpt")
        assert outcome.code == 0, outcome.err
    ours, theirs = (load_model(Path(f"with-{second}.ckpt"), CPU)[0] for second in ("b.ckpt", "theirs"))
    assert weights_hash(ours) == weights_hash(theirs)


def test_heads_of_classifiers_are_averaged(run_verb: Run, workplace: Path) -> None:
    heads = []
    for name in "ab":
        save_classifier(workplace / f"{name}.ckpt", model=another(ord(name)))
        content = files.read(workplace / f"{name}.ckpt")
        content["state_dict"][SCORE] = content["state_dict"][SCORE] + ord(name)
        heads.append(content["state_dict"][SCORE])
        files.write(content, workplace / f"{name}.ckpt")
    outcome = run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=merged.ckpt")
    assert outcome.code == 0, outcome.err
    torch.testing.assert_close(files.read(Path("merged.ckpt"))["state_dict"][SCORE], (heads[0] + heads[1]) / 2)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: save_base(path, another(0, n_layer=3)), ["n_layer: the first has 2, the second 3"]),
        (lambda path: save_base(path, another(0, torch.bfloat16)), ["float32 and bfloat16"]),
        (lambda path: save_classifier(path), ["language modeling and classify"]),
        (lambda path: save_other_tokenizer(path), ["different tokenizers", LETTERS.hash()[:12]]),
        (
            lambda path: save_adapter(path, path.parent / "a.ckpt", LoRASpec(rank=2), another(0)),
            ["LoRA adapter", "not the mean of their products"],
        ),
    ],
    ids=["architecture", "dtype", "task", "tokenizer", "adapter"],
)
def test_models_whose_mean_is_no_model_are_refused(
    run_verb: Run, models: list[GPT2], workplace: Path, make: Callable[[Path], object], named: list[str]
) -> None:
    make(workplace / "other.ckpt")
    outcome = run_verb("merge", "checkpoints=[a.ckpt,other.ckpt]", "output=merged.ckpt")
    refused(outcome, "other.ckpt", *named)
    assert not Path("merged.ckpt").exists()


def test_a_tensor_that_is_not_the_mean_is_found_and_nothing_is_written(
    run_verb: Run, models: list[GPT2], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(content: dict[str, Any], path: Path) -> None:
        content["state_dict"]["ln_f.weight"][3] *= 1 + 1e-6
        write(content, path)

    write = files.write
    monkeypatch.setattr(merge.files, "write", planted)
    refused(run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=merged.ckpt"), "ln_f.weight differs from the mean")
    assert not Path("merged.ckpt").exists()


def test_an_output_is_replaced_only_on_request_and_only_if_it_is_a_checkpoint(
    run_verb: Run, models: list[GPT2], workplace: Path
) -> None:
    refused(run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=c.ckpt"), "c.ckpt exists", "overwrite=true")
    assert run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=c.ckpt", "overwrite=true").code == 0
    (workplace / "notes.txt").write_text("mine")
    refused(run_verb("merge", "checkpoints=[a.ckpt,b.ckpt]", "output=notes.txt", "overwrite=true"), "not a checkpoint")
    assert (workplace / "notes.txt").read_text() == "mine"


def test_a_merged_checkpoint_states_only_settings_in_which_all_agree(models: list[GPT2], workplace: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        content = files.read(workplace / f"{name}.ckpt")
        content[KEY]["run_config"] = {"seed": seed, "batch_size": 4}
        files.write(content, workplace / f"{name}.ckpt")
    verb.run({"checkpoints": ["a.ckpt", "b.ckpt"], "output": "merged.ckpt"})
    config = load_model(Path("merged.ckpt"), CPU)[1].run_config
    assert config.keys() == {"batch_size", "origin"}
