"""The explorer in a real browser, opened from disk: what a click, a key and a slider do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2_lightning.inspection.attention.explorer import explorer
from gpt2_lightning.inspection.attention.measure import AttentionMeasurement
from gpt2_lightning.inspection.colormaps import diverging, sequential
from tests.inspection.browser import FLAGS
from tests.inspection.measured_network import TOKENIZER, measured

pytestmark = pytest.mark.slow

DRIVER = """<script>
const seen = {};
const options = (name) => ({ key: name, bubbles: true, cancelable: true });
const key = (node, name) => node.dispatchEvent(new KeyboardEvent("keydown", options(name)));
const cells = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
const tables = () => [...document.querySelectorAll("#details table")].map(cells);
const text = (id) => document.getElementById(id).textContent;
const option = (token) => document.querySelector(`#text [data-token="${token}"]`);

seen.title = text("view-title");
seen.labels = [...document.querySelectorAll("#text span")].map((span) => span.textContent);
document.querySelector('#heads [data-head="4"]').click();
seen.clicked = [text("view-title"), text("effect")];
option(9).click();
seen.token = [text("details-title"), ...tables().slice(0, 2)];
seen.pixel = pixel(9, 2);
key(option(9), "ArrowLeft");
seen.left = text("details-title");
key(option(8), "End");
seen.end = text("details-title");
key(document.querySelector('#heads [data-head="4"]'), "ArrowUp");
seen.up = [text("view-title"), document.activeElement.dataset.head];
key(document.querySelector("#view canvas"), "ArrowUp");
key(document.querySelector("#view canvas"), "ArrowLeft");
seen.readout = text("readout");
document.querySelector('#text [data-token="3"]').dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
seen.hovered = text("details-title");
document.getElementById("text").dispatchEvent(new MouseEvent("mouseleave"));
seen.left_again = text("details-title");

seen.svgs = {};
for (const [digit, name] of ["matrix", "lines", "lens"].entries()) {
  key(document.body, String(digit + 1));
  seen.svgs[name] = currentSvg();
}
seen.lens = cells(document.querySelector("#view table"));
key(document.body, "4");
seen.table = cells(document.querySelector("#view table"));
seen.savable = !document.getElementById("save").disabled;

const threshold = document.getElementById("threshold");
threshold.value = 0.3;
threshold.dispatchEvent(new Event("input"));
seen.above = cells(document.querySelector("#view table"));
threshold.value = 0;
threshold.dispatchEvent(new Event("input"));

const columns = [...document.querySelectorAll("#scores th button")];
const induction = columns.findLast((button) => button.textContent.startsWith("induction"));
induction.click();
seen.sorted = cells(document.querySelector("#scores tbody")).map((row) => row[0]);
seen.sort = induction.closest("th").getAttribute("aria-sort");

const theme = document.documentElement.dataset.theme;
key(document.body, "d");
seen.themes = [theme, document.documentElement.dataset.theme];
key(document.body, "]");
seen.second = [text("about"), text("checkpoint-name"), cells(document.querySelector("#view table"))];
key(document.body, "[");
document.getElementById("rollout").click();
seen.rollout = text("view-title");
key(document.body, "1");
key(document.body, "d");
document.querySelector('#heads [data-head="4"]').click();
option(9).click();
const ticks = () => [...document.querySelectorAll("#ticks span")].map((span) => span.textContent);
seen.scales = [ticks()];
document.getElementById("difference").click();
seen.pressed = document.getElementById("difference").getAttribute("aria-pressed");
seen.difference = [text("view-title"), text("about")];
seen.scales.push(ticks());
seen.differing_pixels = pixels(9);
seen.svgs.difference = currentSvg();
key(document.querySelector("#view canvas"), "ArrowLeft");
seen.differing_readout = text("readout");
key(document.body, "c");
seen.weights_again = [text("view-title"), ticks()];
key(document.body, "[");
key(document.body, "Escape");
seen.none = text("details-title");
document.body.style.width = "1280px";
key(document.body, "2");
const view = document.getElementById("view");
const box = view.getBoundingClientRect();
const labels = [...view.querySelectorAll("text")].map((label) => label.getBoundingClientRect());
const farthest = Math.max(...labels.map((label) => label.right));
seen.lines = [labels.length, farthest - box.right, view.scrollWidth - view.clientWidth];

function pixel(query, column) {
  return pixels(query)[column];
}
function pixels(query) {
  const { cell, margin } = measures();
  const canvas = document.querySelector("#view canvas");
  const sharp = canvas.width / canvas.clientWidth;
  const middle = (i) => Math.floor((margin + (i + 0.5) * cell) * sharp);
  const { data } = canvas.getContext("2d").getImageData(0, middle(query), canvas.width, 1);
  return Array.from({ length: query + 1 }, (_, i) => [...data.slice(4 * middle(i), 4 * middle(i) + 4)]);
}
const result = document.createElement("pre");
result.id = "result";
result.textContent = JSON.stringify(seen);
document.body.append(result);
</script>"""


PLAIN_TICKS = ["0", "0.05", "0.2", "0.5", "1"]


@dataclass(frozen=True)
class Visit:
    """What was shown in the browser, and what it should have been."""

    seen: dict[str, Any]
    console: list[str]
    first: AttentionMeasurement
    second: AttentionMeasurement


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    folder = tmp_path_factory.mktemp("browser")
    first, second = measured(), measured(seed=1)
    page = explorer([first, second], TOKENIZER, "a text", head=(1, 2), token=3)
    file = folder / "explorer.html"
    file.write_text(page.replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    plain = result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(json.loads(plain), console, first, second)


def strongest(row: list[float], count: int) -> list[tuple[int, float]]:
    return sorted(enumerate(row), key=lambda pair: -pair[1])[:count]


def test_nothing_is_complained_of(visit: Visit) -> None:
    assert visit.console == []


def test_tokens_that_look_like_markup_are_shown_as_text(visit: Visit) -> None:
    assert "".join(visit.seen["labels"]).startswith("One·<b>x</b>·</script><script>throw·1</script><!--·{{title}}")


def test_the_head_asked_for_is_shown_first_and_a_click_takes_another(visit: Visit) -> None:
    assert visit.seen["title"] == "Layer 1, head 2"
    title, effect = visit.seen["clicked"]
    assert title == "Layer 1, head 1"
    (expected,) = (e for e in visit.first.effects if (e.layer, e.head) == (1, 1))
    assert f"{expected.loss_change:+.3f}".replace("-", "−") in effect


def test_a_click_on_a_token_shows_its_sources_and_targets(visit: Visit) -> None:
    title, sources, targets = visit.seen["token"]
    weights = visit.first.reading.weights[1, 1]
    assert title.startswith("Token 9 ")
    for shown, expected in ((sources, weights[9]), (targets, weights[:, 9])):
        assert 0 < len(shown) <= 6
        assert all(float(value) == pytest.approx(expected[int(token)].item(), abs=0.0075) for token, _, value in shown)
        assert float(shown[0][2]) == pytest.approx(expected.max().item(), abs=0.0075)
        assert [float(value) for *_, value in shown] == sorted((float(value) for *_, value in shown), reverse=True)


def test_the_matrix_has_the_color_of_the_weight(visit: Visit) -> None:
    weight = round(255 * visit.first.reading.weights[1, 1, 9, 2].item()) / 255
    expected = sequential(dark=False)[round(255 * weight**0.5)].tolist()
    assert visit.seen["pixel"] == pytest.approx([*expected, 255], abs=3)


def test_keys_move_among_tokens_and_heads(visit: Visit) -> None:
    last = len(visit.seen["labels"]) - 1
    assert visit.seen["left"].startswith("Token 8 ")
    assert visit.seen["end"].startswith(f"Token {last} ")
    assert visit.seen["up"] == ["Layer 0, head 1", "1"]
    weight = visit.first.reading.weights[0, 1, last - 1, last - 2].item()
    query, rest = visit.seen["readout"].split(" attends to ")
    assert query.startswith(f"{last - 1} ")
    assert rest.startswith(f"{last - 2} ")
    assert float(rest.rpartition(" ")[2]) == pytest.approx(weight, abs=0.0075)


def test_the_pointer_shows_a_token_while_it_is_there(visit: Visit) -> None:
    assert visit.seen["hovered"].startswith("Token 3 ")
    assert visit.seen["left_again"].startswith(f"Token {len(visit.seen['labels']) - 2} ")


def test_views_are_saved_as_svg_that_needs_nothing_else(visit: Visit) -> None:
    shapes = {"matrix": "path", "lines": "path", "lens": "rect", "difference": "path"}
    for view, shape in shapes.items():
        root = ElementTree.fromstring(visit.seen["svgs"][view])
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall(f".//{{*}}{shape}")) > 3
        assert "·<b" in "".join(root.itertext()) or view == "lens"
        assert "href" not in visit.seen["svgs"][view]
    assert not visit.seen["savable"], "the table is no picture"


def test_the_lens_has_a_row_for_each_layer_the_last_on_top(visit: Visit) -> None:
    header, *rows = visit.seen["lens"]
    assert [row[0] for row in rows] == ["layer 1", "layer 0", "embeddings"]
    assert header[1:] == visit.seen["labels"]
    for row, ids in zip(rows, reversed(visit.first.reading.lens_ids.tolist()), strict=True):
        assert row[1] == TOKENIZER.decode([ids[0][0]]).replace(" ", "·")


def test_the_threshold_leaves_out_small_weights(visit: Visit) -> None:
    weights = visit.first.reading.weights[0, 1]
    for token, row in enumerate(visit.seen["above"][1:]):
        shown = re.findall(r"\((\d+)\) ([\d.]+)", row[2])
        large = [i for i, w in strongest(weights[token].tolist(), 3) if w >= 0.305]
        assert {i for i, _ in shown} >= {str(i) for i in large}
        assert all(float(w) >= 0.3 for _, w in shown)
    counts = [len(re.findall(r"\(\d+\)", str(visit.seen[name]))) for name in ("above", "table")]
    assert 0 < counts[0] < counts[1]


def test_a_click_on_a_column_sorts_the_heads(visit: Visit) -> None:
    scores = visit.first.repeated_scores["induction"].flatten().tolist()
    order = sorted(range(6), key=lambda head: (-round(scores[head], 4), head))
    assert visit.seen["sorted"] == [f"Layer {head // 3}, head {head % 3}" for head in order]
    assert visit.seen["sort"] == "descending"


def test_dark_and_light_take_turns(visit: Visit) -> None:
    assert visit.seen["themes"] == ["light", "dark"]


def test_another_checkpoint_shows_its_own_weights(visit: Visit) -> None:
    about, name, table = visit.seen["second"]
    assert about.startswith("seed 1: 2 layers of 3 heads")
    assert name == "2 of 2: seed 1"
    last = visit.second.reading.weights[0, 1, -1]
    token, weight = re.findall(r"\((\d+)\) ([\d.]+)", table[-1][2])[0]
    assert float(weight) == pytest.approx(last.max().item(), abs=0.0075)
    assert last[int(token)].item() == pytest.approx(last.max().item(), abs=1 / 255)


def differences_of(visit: Visit, token: int) -> NDArray[np.float64]:
    """Those of a row of layer 1, head 1, in 255ths as the page has them."""
    first, second = (np.round(255 * of.reading.weights[1, 1, token].numpy()) for of in (visit.first, visit.second))
    return (second - first) / 255


def test_the_second_checkpoint_minus_the_first_is_a_map_of_its_own(visit: Visit) -> None:
    title, about = visit.seen["difference"]
    assert title == "Layer 1, head 1, checkpoint 2 minus checkpoint 1"
    assert visit.seen["pressed"] == "true"
    assert about.startswith("seed 1: ")
    row = differences_of(visit, 9)[:10]
    assert row.min() < -0.02
    assert row.max() > 0.02
    for found, d in zip(visit.seen["differing_pixels"], row, strict=True):
        place = 255 + round(255 * abs(d) ** 0.5) * (1 if d > 0 else -1)
        assert found == pytest.approx([*diverging(dark=False)[place].tolist(), 255], abs=3)
    assert visit.seen["scales"] == [PLAIN_TICKS, ["−1.0", "−0.2", "0.0", "+0.2", "+1.0"]]
    key = int(visit.seen["differing_readout"].split(" attends to ")[1].split()[0])
    said = visit.seen["differing_readout"].split("which is ")[1].split()[0].replace("−", "-")
    assert float(said) == pytest.approx(row[key], abs=0.006)


def test_the_difference_is_switched_off_again(visit: Visit) -> None:
    assert visit.seen["weights_again"] == ["Layer 1, head 1", PLAIN_TICKS]


def test_rollout_and_no_token_can_be_chosen(visit: Visit) -> None:
    assert visit.seen["rollout"] == "Rollout of all layers"
    assert visit.seen["none"] == "Token"


def test_labels_of_lines_are_whole_in_a_window_of_1280_pixels(visit: Visit) -> None:
    count, beyond, hidden = visit.seen["lines"]
    assert count == 2 * len(visit.seen["labels"])
    assert beyond <= 0
    assert hidden == 0
