"""The explorer as a file. What it does in a browser is tested in test_attention_explorer_browser.py."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.inspection.attention.explorer import explorer, explorer_bytes, pack
from gpt2_lightning.inspection.attention.measure import AttentionMeasurement, measure_attention
from gpt2_lightning.inspection.attention.reading import rollout
from gpt2_lightning.model import GPT2Config
from tests.inspection.measured_network import TOKENIZER, lively, measured


@pytest.fixture(scope="module")
def found() -> AttentionMeasurement:
    return measured()


@pytest.fixture(scope="module")
def page(found: AttentionMeasurement) -> str:
    return explorer([found], TOKENIZER, "a text", head=(1, 2), token=3)


def data_of(page: str) -> Any:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def decoded(page: str, tokens: int, checkpoint: int = 0) -> NDArray[np.float64]:
    """The matrices of a page, byte by byte: rows of growing length, and each matrix begins at a whole letter."""
    (packed,) = re.findall(rf'<script type="text/plain" id="weights-{checkpoint}">([^<]*)</script>', page)
    letters = 4 * -(-tokens * (tokens + 1) // 2 // 3)
    matrices = []
    for start in range(0, len(packed), letters):
        stream = iter(base64.b64decode(packed[start : start + letters], validate=True))
        matrices.append([[next(stream) / 255 for _ in range(i + 1)] + [0] * (tokens - i - 1) for i in range(tokens)])
    return np.array(matrices)


def test_weights_survive_to_a_255th(found: AttentionMeasurement, page: str) -> None:
    weights = found.reading.weights
    expected = torch.cat([weights.flatten(0, 1), rollout(weights)[None]]).numpy()
    actual = decoded(page, weights.size(-1))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 0.5 / 255 + 1e-6
    assert expected.std() > 0.05


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5])
def test_matrices_of_any_size_begin_at_whole_letters(tokens: int) -> None:
    weights = np.tril(np.random.default_rng(0).random((3, tokens, tokens), dtype=np.float32))
    packed = pack(weights)
    assert len(packed) == 3 * explorer_bytes(1, 0, tokens)
    page = f'<script type="text/plain" id="weights-0">{packed}</script>'
    assert np.abs(decoded(page, tokens) - weights).max() <= 0.5 / 255 + 1e-6


def test_tokens_scores_and_predictions_are_those_measured(found: AttentionMeasurement, page: str) -> None:
    data = data_of(page)
    (checkpoint,) = data["checkpoints"]
    assert (data["layers"], data["heads"], data["head"], data["token"]) == (2, 3, 5, 3)
    assert "".join(data["tokens"]).startswith("One·<b>x</b>·</script><script>throw·1")
    ids, kept = found.reading.lens_ids, data["kept"]
    place = (2 * ids.size(1) + 4) * kept  # after the last layer, at token 4
    label = data["vocabulary"][checkpoint["lens"]["ids"][place]]
    assert label == TOKENIZER.decode([int(ids[2, 4, 0])]).replace(" ", "·")
    assert checkpoint["lens"]["probabilities"][place] == pytest.approx(
        found.reading.lens_probabilities[2, 4, 0].item(), abs=1e-4
    )
    columns = [(column["name"], column["where"]) for column in data["scores"]]
    induction = columns.index(("induction", "repeated")) - 1
    assert checkpoint["scores"][5][induction] == pytest.approx(
        found.repeated_scores["induction"][1, 2].item(), abs=1e-4
    )
    worst = found.effects[0]
    loss = columns.index(("loss", "switched off")) - 1
    assert checkpoint["scores"][worst.layer * 3 + worst.head][loss] == pytest.approx(worst.loss_change, abs=1e-4)


def test_tokens_that_look_like_markup_stay_text(page: str) -> None:
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == [
        '<script type="application/json" id="data">',
        '<script type="text/plain" id="weights-0">',
        "<script>",
    ]
    assert "<b>" not in page
    assert "throw 1" not in page
    assert page.count("<!--") == 0


def test_the_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r"https?://|//cdn|@import|\bimport\s|\bfetch\(|XMLHttpRequest", page)
    assert not re.search(r"<(link|iframe|img|object|embed)\b", page)
    assert re.findall(r'\b(?:src|href)="([^"]*)"', page) == ["#view"]
    assert "default-src 'none'" in page


def test_twelve_by_twelve_heads_and_128_tokens_are_two_megabytes_at_most() -> None:
    model = lively(GPT2Config(50257, 128, n_layer=12, n_head=12, n_embd=24))
    ids = torch.randint(50257, (128,), generator=torch.Generator().manual_seed(0))
    page = explorer([measure_attention(model, ids, ids[:0], "many heads")], TOKENIZER, "none", (0, 0), 0)
    assert len(page.encode()) <= 2_000_000
    assert decoded(page, 128).shape == (145, 128, 128)


def test_several_checkpoints_share_the_tokens_and_have_weights_each(found: AttentionMeasurement) -> None:
    other = measured(seed=1)
    page = explorer([found, other], TOKENIZER, "a text", (0, 0), 0, shown=1)
    data = data_of(page)
    assert [checkpoint["name"] for checkpoint in data["checkpoints"]] == ["seed 0", "seed 1"]
    assert data["shown"] == 1
    for i, expected in enumerate((found, other)):
        head = decoded(page, len(data["tokens"]), i)[4]
        assert np.abs(head - expected.reading.weights[1, 1].numpy()).max() < 1 / 255


def test_one_token_makes_a_page(found: AttentionMeasurement) -> None:
    data = data_of(explorer([measured("One")], TOKENIZER, "a text", (0, 0), 0))
    assert data["tokens"] == ["One"]
    assert data["checkpoints"][0]["loss"] is None
    assert set(data["checkpoints"][0]["scores"][0][:7]) == {None}


def test_the_scripts_are_small_and_complete(page: str) -> None:
    folder = Path(str(resources.files("gpt2_lightning.inspection.attention") / "explorer_page"))
    files = sorted(folder.glob("*.js"))
    assert all(file.read_text(encoding="utf-8") in page for file in files)
    assert max(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 200


def test_the_script_is_valid(page: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    (script,) = re.findall(r"<script>\n(.*?)</script>", page, re.DOTALL)
    file = tmp_path / "script.js"
    for text, is_valid in ((script, True), (script + "}", False)):
        file.write_text(text, encoding="utf-8")
        assert (subprocess.run([node, "--check", file], capture_output=True).returncode == 0) is is_valid


def test_a_head_of_interest_has_the_highest_induction_score(found: AttentionMeasurement) -> None:
    score: Tensor = found.repeated_scores["induction"]
    layer, head = found.head_of_interest()
    assert score[layer, head] == score.max()
    assert found.head_of_interest(0) == (0, int(score[0].argmax()))
