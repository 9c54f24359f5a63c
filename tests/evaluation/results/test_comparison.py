"""Comparison of two models from the files of their evaluations, and its page."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Item, ItemRecord, Items, Subject
from gpt2_lightning.evaluation.comparison import compare
from gpt2_lightning.evaluation.evaluate import items_file
from gpt2_lightning.evaluation.results import comparison_page
from gpt2_lightning.evaluation.results.comparison import Option, ShownItem, comparison_rows
from gpt2_lightning.evaluation.results.comparison_page import write_comparison_page
from gpt2_lightning.evaluation.results.intervals import ratio, share
from gpt2_lightning.evaluation.results.item_log import Header, open_log
from gpt2_lightning.evaluation.results.metric import Metric
from tests.inspection.browser import FLAGS

HEADER = Header("questions", {}, "data", "weights", "tokenizer", "float32")
CHOICES = ("<script>alert(1)</script>", "b")
RIGHT = 1


@dataclass(frozen=True)
class Questions(Benchmark):
    """Questions with two choices, of which the second is right."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        raise NotImplementedError

    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        raise NotImplementedError

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        loss = ratio("loss", [record["loss"] for record in records], [record["tokens"] for record in records])
        return [loss, share("acc", [record["chosen"] == RIGHT for record in records])]

    def shown(self, record: ItemRecord, metric: str) -> ShownItem:
        assert metric == "acc"
        options = (Option(text, -1.5, i == RIGHT, i == record["chosen"]) for i, text in enumerate(CHOICES))
        return ShownItem(f"{record['id']} & more", tuple(options))


def measured(folder: Path, chosen: Sequence[int], header: Header = HEADER, tokens: int = 3) -> Path:
    """A folder with the records of a model that chose these choices."""
    records = [
        {"id": str(number), "chosen": choice, "loss": 2.0 + choice, "tokens": tokens}
        for number, choice in enumerate(chosen)
    ]
    with open_log(items_file(folder, "questions"), header, len(records)) as log:
        log.append(records)
        log.finish()
    return folder


@pytest.fixture
def this(tmp_path: Path) -> Path:
    return measured(tmp_path / "this", [1, 1, 0, 0, 1])


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return measured(tmp_path / "other", [1, 0, 1, 0, 0], dataclasses.replace(HEADER, weights="others"))


def test_items_that_one_model_has_right_are_found(this: Path, other: Path) -> None:
    (found,) = compare({"questions": Questions()}, this, other)
    assert [(item.id, item.is_this_right) for item in found.changed] == [("1", True), ("2", False), ("4", True)]
    assert (found.changed_by, found.n_items, found.not_comparable) == ("acc", 5, ())
    loss, acc = comparison_rows([found])
    assert loss[:5] == ("questions", "loss ↓", "0.8667", "0.8000", "+0.0667")
    assert acc[:5] == ("questions", "acc ↑", "60.00 %", "40.00 %", "+20.00 pp")
    assert acc[6:] == ("2", "1", "1.0000")


def test_shares_are_compared_between_tokenizers(this: Path, tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, tokenizer="others")
    (found,) = compare({"questions": Questions()}, this, measured(tmp_path / "other", [0] * 5, header, tokens=4))
    assert [pair.name for pair in found.differences] == ["acc"]
    assert found.not_comparable == ("loss",)


def test_a_loss_per_token_alone_is_not_compared_between_tokenizers(
    this: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Questions.metrics
    monkeypatch.setattr(Questions, "metrics", lambda self, records: metrics(self, records)[:1])
    other = measured(tmp_path / "other", [0] * 5, dataclasses.replace(HEADER, tokenizer="others"), tokens=4)
    with pytest.raises(UserError, match=r"questions: 'loss' are not comparable.*others there, tokenizer now"):
        compare({"questions": Questions()}, this, other)


def test_other_items_and_missing_evaluations_are_refused(this: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="items: 3 there, 5 now"):
        compare({"questions": Questions()}, this, measured(tmp_path / "fewer", [1, 1, 1]))
    with pytest.raises(UserError, match=r"there is no .*questions\.jsonl; evaluate"):
        compare({"questions": Questions()}, this, tmp_path / "nothing")


def test_page_has_both_answers_and_escapes_texts(this: Path, other: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    write_comparison_page(compare({"questions": Questions()}, this, other), "a<b", "{{other}}", page)
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "a&lt;b" in text
    assert '<br><span class="other">other</span>: {{other}}</p>' in text
    assert text.count("<article") == 3
    article = text.split("<article")[1]
    assert "item 1: only this is right" in article
    assert "1 &amp; more" in article
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>", article)
    chosen = '<span class="chosen">◆ chosen</span> -1.5000'
    assert rows == [
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "-1.5000", chosen),
        ('b <span class="right">✓ right</span>', chosen, "-1.5000"),
    ]
    assert re.findall(r"(?:src|href)=", text) == []


def test_page_of_many_items_has_some_of_them(
    this: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_page, "MOST_ITEMS", 2)
    write_comparison_page(compare({"questions": Questions()}, this, other), "a", "b", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "3 items that only one model has right, 2 of them below, evenly spaced" in text
    assert text.count("<article") == 2


DRIVER = """<pre id="result"></pre><script>
const items = [...document.querySelectorAll("article")];
const shown = () => items.filter((item) => !item.hidden).map((item) => item.ariaLabel);
const input = (node, change) => { change(node); node.dispatchEvent(new Event("input", { bubbles: true })); };
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const seen = { all: shown() };
document.querySelector("article").focus();
press("ArrowDown"); seen.down = document.activeElement.ariaLabel;
press("End"); seen.end = document.activeElement.ariaLabel;
press("ArrowDown"); seen.beyond = document.activeElement.ariaLabel;
input(document.querySelector("[value=this]"), (node) => { node.checked = true; }); seen.only_this = shown();
document.querySelector("article").focus();
press("ArrowDown"); seen.next = document.activeElement.ariaLabel;
input(document.querySelector("[type=search]"), (node) => { node.value = "4 & MORE"; }); seen.found = shown();
seen.status = document.querySelector("output").textContent;
seen.colors = [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color];
document.querySelector("#result").textContent = JSON.stringify(seen);
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "is_dark"), [(0, True), (1, False)])
def test_filters_and_arrow_keys_in_a_browser(
    this: Path, other: Path, tmp_path: Path, scheme: int, is_dark: bool
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    page = tmp_path / "page.html"
    write_comparison_page(compare({"questions": Questions()}, this, other), "a", "b", page)
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    profile, colors = f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"
    command = [chromium, *FLAGS, colors, profile, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    seen = json.loads(result)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert seen["all"] == ["item 1", "item 2", "item 4"]
    assert (seen["down"], seen["end"], seen["beyond"]) == ("item 2", "item 4", "item 4")
    assert (seen["only_this"], seen["next"]) == (["item 1", "item 4"], "item 4")
    assert (seen["found"], seen["status"]) == (["item 4"], "1 of 3 shown")
    ground, text = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in seen["colors"])
    assert (ground < 200 < 600 < text) if is_dark else (text < 200 < 600 < ground)
