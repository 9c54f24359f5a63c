"""Our model beside transformers' GPT-2: agreement is found, and each planted difference is named as the cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.parity import Ours, Padding, Report, Theirs, load_theirs, measure
from gpt2_lightning.evaluation.parity.causes import padding_causes, rounding_cause
from gpt2_lightning.evaluation.parity.padding import padded_texts
from gpt2_lightning.evaluation.parity.search import smallest_set
from gpt2_lightning.evaluation.parity.texts import Divergence, Match, Pair, our_texts, ragged
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.huggingface import folder
from gpt2_lightning.huggingface.tokenizer_files import write_tokenizer_files
from gpt2_lightning.huggingface.weights import recast
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

CONFIG = GPT2Config(vocab_size=23, block_size=47, n_layer=2, n_head=5, n_embd=35)
LETTERS = CharTokenizer("abcdefghijklmnopqrstuv ")
CPU = torch.device("cpu")
PROMPT = "fed cab"
SAMPLING = Sampling(max_new_tokens=8, temperature=0.9, top_k=13, top_p=0.95, seed=3)
Plant = Callable[[Path], None]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def ours() -> Ours:
    return Ours(lively(CONFIG), LETTERS, "ours")


@pytest.fixture
def exported(ours: Ours, tmp_path: Path) -> Path:
    """Our model as a folder, in which a test may plant a difference."""
    folder.write(ours.model, LETTERS, tmp_path / "theirs", "# A card\n", 10**9)
    return tmp_path / "theirs"


def report_of(ours: Ours, theirs: Theirs | Path, prompt: str = PROMPT) -> Report:
    loaded = load_theirs(theirs, CPU) if isinstance(theirs, Path) else theirs
    return measure(ours, loaded, prompt, SAMPLING, 3, None)


def names(report: Report) -> list[str]:
    return [cause.name for cause in report.causes]


def configured(**fields: Any) -> Plant:
    def plant(exported: Path) -> None:
        file = exported / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return plant


def one_value_changed(exported: Path) -> None:
    file = exported / "model.safetensors"
    weights = load_file(file)
    weights["transformer.h.1.mlp.c_fc.weight"][3, 7] += 0.5
    save_file(weights, file, {"format": "pt"})


def half_precision(exported: Path) -> None:
    shutil.rmtree(exported)
    folder.write(recast(lively(CONFIG), torch.bfloat16), LETTERS, exported, "# A card\n", 10**9)


def test_two_forms_of_one_model_agree_in_everything(ours: Ours, exported: Path) -> None:
    report = report_of(ours, exported)
    assert report.causes == ()
    assert report.explanation.is_whole
    assert report.networks.weights.differing == ()
    assert report.networks.weights.count == 28
    places = ["embeddings", "layer 1", "layer 2", "final norm", "logits"]
    for layers, largest in (
        (report.networks.on_prompt, 1e-5),
        (report.networks.on_random_ids, 1e-5),
        (report.explanation.layers, 1e-13),
    ):
        assert [layer.place for layer in layers] == places
        assert max(layer.difference for layer in layers) < largest
        assert min(layer.largest for layer in layers) > 0.1
    assert report.networks.our_loss == pytest.approx(report.networks.their_loss, abs=1e-6)
    kinds = ["greedy", "sampled", "3 beams", *(f"greedy in a batch, prompt of {length}" for length in (1, 4, 7))]
    assert [match.name for match in report.matches] == kinds
    assert all(match.divergence is None and match.ours == match.theirs for match in report.matches)
    assert len({match.ours for match in report.matches[:3]}) == 3
    assert report.matches[0].ours == report.matches[-1].ours


def test_the_settings_that_calls_resolve_are_read_and_decide(ours: Ours, exported: Path) -> None:
    """What transformers says of itself, asked in another way."""
    from transformers import TextGenerationPipeline

    defaults = TextGenerationPipeline._default_generation_config
    report = report_of(ours, exported)
    raw, pipeline = report.calls
    assert [raw.name, pipeline.name] == ["generate()", "pipeline()"]
    assert not raw.settings["do_sample"]
    for key in ("do_sample", "temperature"):
        assert pipeline.settings[key] == getattr(defaults, key)
    for call in (raw, pipeline):
        assert call.settings["max_new_tokens"] == 40, "the folder's max_length is its context of 47, the prompt has 7"
    assert pipeline.padding_side == "left"
    assert "do_sample" in raw.deciding
    assert {"max_new_tokens"} < set(pipeline.deciding) <= {"temperature", "top_k", "top_p", "max_new_tokens"}
    for call in report.calls:
        assert call.matched.divergence is None
        assert call.matched.theirs == report.our_text
        assert call.text != report.our_text


def test_settings_of_the_folder_are_resolved_too(ours: Ours, exported: Path) -> None:
    fields = {"do_sample": True, "temperature": 0.9, "top_k": 13, "top_p": 0.95, "max_new_tokens": 8}
    (exported / "generation_config.json").write_text(json.dumps(fields))
    report = report_of(ours, exported)
    assert [call.deciding for call in report.calls] == [(), ()]
    assert [call.text for call in report.calls] == [report.our_text] * 2


@pytest.mark.parametrize(
    ("plant", "expected", "sentence"),
    [
        (configured(activation_function="gelu"), ["activation"], "the exact GELU"),
        (configured(layer_norm_epsilon=1e-3), ["layer_norm_epsilon"], "1e-05 here and 0.001 there"),
        (configured(n_head=7), ["n_head"], "5 heads here and 7 there"),
        (configured(scale_attn_by_inverse_layer_idx=True), ["attention scale"], "scale_attn_by_inverse_layer_idx=True"),
        (one_value_changed, ["weights"], "1 of 28 tensors"),
        (half_precision, ["dtype"], "float32 here and bfloat16 there"),
    ],
)
def test_a_planted_difference_is_the_cause(
    ours: Ours, exported: Path, plant: Plant, expected: list[str], sentence: str
) -> None:
    plant(exported)
    report = report_of(ours, exported)
    assert names(report) == expected
    assert sentence in report.causes[0].sentence
    assert max(layer.difference for layer in report.explanation.layers) > 1e-5
    assert all(match.divergence is None for match in report.mended)


def test_the_changed_tensor_is_told(ours: Ours, exported: Path) -> None:
    one_value_changed(exported)
    (tensor,) = report_of(ours, exported).networks.weights.altered
    assert (tensor.name, tensor.count) == ("transformer.h.1.mlp.c_fc.weight", 1)
    assert tensor.difference == pytest.approx(0.5)


def test_several_causes_are_told_apart(ours: Ours, exported: Path) -> None:
    """What makes no difference, the dropout of a model in evaluation mode, is no cause."""
    configured(activation_function="relu", layer_norm_epsilon=0.1, resid_pdrop=0.3)(exported)
    report = report_of(ours, exported)
    assert names(report) == ["activation", "layer_norm_epsilon"]
    assert "beside layer_norm_epsilon" in report.causes[0].evidence
    assert any(match.divergence for match in report.matches)
    assert all(match.divergence is None for match in report.mended)


def test_dropout_left_on_is_the_cause(ours: Ours, exported: Path) -> None:
    configured(resid_pdrop=0.2)(exported)
    theirs = load_theirs(exported, CPU)
    theirs.model.train()
    report = report_of(ours, theirs)
    assert names(report) == ["dropout"]
    assert any(match.divergence for match in report.matches)
    assert theirs.model.training, "their model is as it was"


def test_half_precision_is_the_cause_with_weights_that_it_holds_exactly(exported: Path) -> None:
    model = recast(recast(lively(CONFIG), torch.bfloat16), torch.float32)
    shutil.rmtree(exported)
    folder.write(recast(model, torch.bfloat16), LETTERS, exported, "# A card\n", 10**9)
    report = report_of(Ours(model, LETTERS, "ours"), exported)
    assert report.networks.weights.differing == ()
    assert names(report) == ["dtype"]
    assert "in our dtype the largest logit difference falls from" in report.causes[0].evidence
    assert all(match.divergence is None for match in report.mended)


def test_texts_that_rounding_parts_are_told_from_a_fault() -> None:
    same, other = Match("greedy", (1, 2), (1, 2), None), Match("greedy", (1, 2), (1, 3), Divergence(2, 2, 3, (), ()))
    assert rounding_cause([other], [same], "float64").name == "rounding"
    assert rounding_cause([other], [other], "float64").name == "unknown"


def test_a_cause_that_is_not_known_is_not_made_up(ours: Ours, exported: Path) -> None:
    theirs = load_theirs(exported, CPU)
    theirs.model.transformer.h[1].register_forward_hook(lambda module, inputs, output: output * 1.1)
    report = report_of(ours, theirs)
    assert names(report) == ["unknown"]
    assert "it begins at layer 2" in report.causes[0].evidence


def test_where_texts_part_both_distributions_are_told(ours: Ours, exported: Path) -> None:
    configured(activation_function="relu", scale_attn_weights=False)(exported)
    match = next(match for match in report_of(ours, exported).matches if match.name == "greedy")
    step = next(i for i, (one, other) in enumerate(zip(match.ours, match.theirs, strict=True)) if one != other)
    assert match.divergence.step == step + 1
    assert match.divergence.our_likeliest[0][0] == match.divergence.our_token == match.ours[step]
    assert match.divergence.their_likeliest[0][0] == match.divergence.their_token == match.theirs[step]
    ids = torch.tensor([[*LETTERS.encode(PROMPT).tolist(), *match.ours[:step]]])
    with torch.no_grad():
        probabilities = ours.model(ids)[0, -1].softmax(-1)
    for token, share in match.divergence.our_likeliest:
        assert share == pytest.approx(float(probabilities[token]), abs=1e-5)


def test_another_tokenizer_is_the_cause(ours: Ours, exported: Path) -> None:
    write_tokenizer_files(CharTokenizer("!abcdefhijklmnopqrstuv "), exported, CONFIG.block_size)
    report = report_of(ours, exported)
    assert names(report) == ["tokenizer"]
    assert "token 1 is 6 here and 7 there" in report.causes[0].sentence
    assert [call.name for call in report.calls] == ["generate()"]


def test_tokens_that_the_model_lacks_are_told(ours: Ours, exported: Path) -> None:
    write_tokenizer_files(CharTokenizer("!#$%&'()*+,-./0123456789abcdef "), exported, CONFIG.block_size)
    (cause,) = report_of(ours, exported).causes
    assert "there is no token 30 in the model" in cause.evidence


def test_several_ends_of_text_in_a_folder_are_read(ours: Ours, exported: Path) -> None:
    (exported / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 8]}))
    raw = report_of(ours, exported).calls[0]
    assert raw.settings["eos_token_id"] == [2, 8]
    assert raw.text == ()
    assert "eos_token_id" in raw.deciding
    assert raw.matched.divergence is None


def test_a_folder_without_a_tokenizer_is_compared_by_our_tokens(ours: Ours, exported: Path) -> None:
    for name in folder.TOKENIZER_FILES:
        (exported / name).unlink(missing_ok=True)
    report = report_of(ours, exported)
    assert report.their_prompt is None
    assert report.causes == ()
    assert [call.name for call in report.calls] == ["generate()"]


@pytest.mark.parametrize(
    ("padding", "slips"),
    [
        (Padding(), []),
        (Padding(position_ids=False), ["position_ids"]),
        (Padding(attention_mask=False), ["attention_mask"]),
        (Padding(side="right"), ["side"]),
        (Padding(attention_mask=False, position_ids=False), ["attention_mask", "position_ids"]),
    ],
)
def test_a_slip_in_padding_is_the_cause(ours: Ours, exported: Path, padding: Padding, slips: list[str]) -> None:
    pair = Pair(ours.model, load_theirs(exported, CPU).model, None)
    prompts = ragged(ours.ids(PROMPT))
    right = our_texts(ours.model, prompts, Sampling(max_new_tokens=8, temperature=0), None)
    assert (padded_texts(pair.theirs, prompts, padding, 8).texts == tuple(right)) == (not slips)
    assert [cause.name for cause in padding_causes(pair, prompts, padding, 8)] == slips


def test_the_texts_of_a_loop_differ_where_its_slips_say_so(ours: Ours, exported: Path) -> None:
    theirs = load_theirs(exported, CPU)
    padding = Padding(attention_mask=False)
    report = measure(ours, theirs, PROMPT, SAMPLING, 3, None, padding)
    prompts = ragged(ours.ids(PROMPT))
    assert [text.prompt_tokens for text in report.loop] == [1, 4, 7]
    assert tuple(text.theirs for text in report.loop) == padded_texts(theirs.model, prompts, padding, 8).texts
    others = sum(text.first_other is not None for text in report.loop)
    assert others > 0
    assert report.loop[-1].first_other is None, "the longest prompt is not padded"
    assert f"{others} of 3 texts" in report.causes[0].evidence
    assert all(match.divergence is None for match in report.matches)
    assert report_of(ours, theirs).loop == ()


def test_the_usual_slips_are_made_on_purpose(ours: Ours, exported: Path) -> None:
    theirs = load_theirs(exported, CPU)
    before = {name: tensor.clone() for name, tensor in theirs.model.state_dict().items()}
    slips = {slip.name: slip for slip in report_of(ours, theirs).slips}
    assert 0 < slips["the other GELU, exact or tanh"].distance < slips["bfloat16"].distance < 0.01
    assert slips["left padding without position ids"].distance > 0.1
    assert slips["left padding without position ids"].first_token == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in theirs.model.state_dict().items())
    assert not theirs.model.training


def test_models_of_other_shapes_are_refused(ours: Ours, exported: Path) -> None:
    model = lively(GPT2Config(vocab_size=23, block_size=31, n_layer=1, n_head=5, n_embd=35))
    other = Ours(model, LETTERS, "other")
    with pytest.raises(UserError, match="block_size is 31 here and 47 there, n_layer is 1 here and 2 there"):
        report_of(other, exported)


def test_texts_past_the_context_are_refused(ours: Ours, exported: Path) -> None:
    with pytest.raises(UserError, match=r"context of 47, .* use max_new_tokens=7"):
        report_of(ours, exported, "a" * 40)


def test_an_empty_prompt_without_an_end_of_text_starts_here_alone(ours: Ours, exported: Path) -> None:
    report = report_of(ours, exported, "")
    assert names(report) == ["tokenizer"]
    assert "1 here and 0 there" in report.causes[0].sentence
    assert all(match.divergence is None for match in report.matches)


def test_a_folder_that_lacks_tensors_is_refused(exported: Path) -> None:
    file = exported / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.ln_1.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks transformer\.h\.1\.ln_1\.bias"):
        load_theirs(exported, CPU)


def test_another_architecture_is_refused(exported: Path) -> None:
    configured(model_type="llama", architectures=["LlamaForCausalLM"])(exported)
    with pytest.raises(UserError, match="architecture 'llama'"):
        load_theirs(exported, CPU)


@pytest.mark.parametrize("needed", [[], ["b"], ["a", "d"], ["a", "b", "c", "d"]])
def test_the_smallest_set_is_found(needed: list[str]) -> None:
    assert smallest_set(["a", "b", "c", "d"], lambda mended: set(needed) <= set(mended)) == needed


def test_no_set_is_found_where_none_is_enough() -> None:
    assert smallest_set(["a", "b"], lambda mended: False) is None
