"""Explanations as JSON and as a page: what is in them, and that texts stay text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gpt2_lightning.inspection.attribution.deletion import RANDOM_ORDERS, SHARES
from gpt2_lightning.inspection.attribution.export import format_value, mean_scores, write_attributions
from gpt2_lightning.inspection.attribution.methods import METHODS
from gpt2_lightning.inspection.attribution.page import write_attribution_page
from tests.inspection.attributed import NUMBER, TASK, TEXTS, explained


class Page(HTMLParser):
    """Tags with their attributes, and the text in each kind of element that matters here."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes another element"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def with_tag(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "explanation.html"
    write_attribution_page(explained(TEXTS), "a <run>", TASK, path)
    return Page(path)


def test_tokens_that_look_like_markup_stay_text(page: Page) -> None:
    assert page.open == [], "every element is closed"
    assert not {tag for tag, _ in page.tags} & {"b", "i", "img"}
    assert "<!--" not in page.source
    assert len(page.with_tag("script")) == 1, "the page's own"
    shown_tokens = "".join(page.texts["span"])
    for text in TEXTS:
        assert shown_tokens.count(text.replace(" ", "·").replace("\n", "↵")) == len(METHODS)
    assert page.texts["title"] == ["Explanations: a <run>"]
    assert any("<i>ham</i>: probability" in heading for heading in page.texts["h2"])


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    assert not [tag for tag, attributes in page.tags if {"src", "srcset"} & attributes.keys() or tag in ("link", "img")]
    assert all(link["href"] and link["href"].startswith("#") for link in page.with_tag("a"))
    assert "default-src 'none'" in page.source
    assert not re.search(r"https?://|@import|url\(", page.source)


def test_every_text_is_on_the_page_and_linked(page: Page) -> None:
    ids = {attributes.get("id") for attributes in page.with_tag("h2")}
    links = [link["href"] for link in page.with_tag("a")]
    assert links == ["#text-1", "#text-2", "#text-3"]
    assert {f"text-{number}" for number in (1, 2, 3)} <= ids
    assert "3 texts, on average" in page.texts["h2"]


def test_a_screen_reader_hears_the_strongest_tokens_and_finds_all_values(page: Page) -> None:
    pictures = [attributes for attributes in page.with_tag("p") if attributes.get("role") == "group"]
    assert len(pictures) == len(TEXTS) * len(METHODS)
    first = explained(TEXTS[:1])[0]
    token, value = first.strongest("gradient_x_input", 1)[0]
    assert f"gradient × input. Strongest tokens: {token} {format_value(value, True)}, " in (
        pictures[0]["aria-label"] or ""
    )
    rows = [attributes for attributes in page.with_tag("tr") if "data-token" in attributes]
    assert len(rows) == sum(len(text.tokens) for text in explained(TEXTS))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.with_tag("th"))
    assert all(attributes.get("aria-hidden") == "true" for attributes in page.with_tag("svg"))
    assert page.with_tag("html") == [{"lang": "en"}]


def test_colors_are_shares_of_the_strongest_and_tell_for_from_against(page: Page) -> None:
    first = explained(TEXTS[:1])[0]
    values = first.result.attributions["occlusion"]
    spans = [attributes for attributes in page.with_tag("span") if "data-token" in attributes]
    count = len(first.tokens)
    for place, span in enumerate(spans[count : 2 * count]):
        share = float(values[place] / values.abs().max())
        assert span["style"] == f"--s:{abs(share):.0%}"
        assert span["class"] == ("against" if round(100 * share) < 0 else "for")
    assert {span["class"] for span in spans} == {"for", "against", "strong"}


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    (text,) = explained(["a bold"], n_left_out=1234)
    write_attribution_page([text], "a run", TASK, tmp_path / "page.html")
    assert "reads the first 3 of 1,237 tokens" in Page(tmp_path / "page.html").source


def test_a_number_is_explained_as_one(tmp_path: Path) -> None:
    texts = explained(["a bold"], "regression")
    write_attribution_page(texts, "a run", NUMBER, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.texts["h2"] == [f"answer {texts[0].result.answer:.4g}"]
    assert "number falls" in page.texts["th"]
    assert "probability" not in page.source


def test_json_holds_every_value(tmp_path: Path) -> None:
    texts = explained(TEXTS)
    write_attributions(texts, "a run", "probability", tmp_path / "explanation.json")
    found = json.loads((tmp_path / "explanation.json").read_text(encoding="utf-8"))
    assert found["deletion"] == {"drop_of": "probability", "shares": list(SHARES), "random_orders": RANDOM_ORDERS}
    for plain, text in zip(found["texts"], texts, strict=True):
        assert plain["text"] == text.text
        assert [token["token"] for token in plain["tokens"]] == text.tokens
        assert plain["probability"] == pytest.approx(text.result.answer, abs=1e-6)
        for method, values in text.result.attributions.items():
            assert [token[method] for token in plain["tokens"]] == pytest.approx(values.tolist(), abs=1e-6)
            deletion = plain["deletion"][method]
            assert deletion["score"] == pytest.approx(sum(deletion["drops"]) / len(SHARES), abs=1e-5)
            assert deletion["random_orders_beaten"] == sum(
                deletion["evidence_score"] > other["evidence_score"] for other in plain["random_orders"]
            )
    means = mean_scores(texts)
    for method in METHODS:
        scores = [plain["deletion"][method]["score"] for plain in found["texts"]]
        assert means[method][0] == pytest.approx(sum(scores) / 3, abs=1e-5)


def test_values_have_a_true_minus_and_zero_has_none() -> None:
    assert [format_value(value, True) for value in (1.0, -0.25, -0.0001)] == ["+1.000", "−0.250", "+0.000"]
    assert [format_value(value) for value in (1.0, -0.25, -0.0001)] == ["1.000", "−0.250", "0.000"]
