"""The page in a real browser, on a server with small random models."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch

import gpt2_lightning
from gpt2_lightning.api.language_model import LanguageModel
from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.generation import Sampling
from gpt2_lightning.serving.engine import Engine
from gpt2_lightning.tokenizers import CharTokenizer
from tests.contrast import contrast
from tests.serving.pages import Visit, chromium, classifier, server
from tests.serving.served import instruct_model, language_model, loaded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.slow

PROMPT = "one day"
HOSTILE = ("<img src=x onerror='window.hacked=1'>", "</script><script>window.hacked=1</script>", "{{style}} &lt;b>")
VIEWS = {"write": "Write", "chat": "Chat", "classify": "Classify"}


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, Engine]]:
    endless = loaded("endless", CharTokenizer("abcdefghijklmnopqrstuvwxyz .:?!\n"))
    with server(loaded(), loaded("others"), endless, instruct_model(), classifier()) as (address, engine):
        yield address, engine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(site: tuple[str, Engine], browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Visits in a tab of their own. Whatever a test does, nothing is complained of, and nothing is loaded elsewhere."""
    visits: list[Visit] = []

    def made(view: str = "write", **options: Any) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(60_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site[0])
        visits.append(Visit(context.new_page(), site[0]))
        visits[-1].listen()
        visits[-1].page.goto(site[0])
        visits[-1].page.click(f"#tab-{view}")
        visits[-1].wait()
        return visits[-1]

    yield made
    for each in visits:
        each.page.context.close()
        assert each.elsewhere == []
        assert each.faults == []


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language_model()


def probabilities(model: LanguageModel, text: str) -> torch.Tensor:
    """Of the token after each of a text."""
    return model.logits(text).softmax(dim=-1)


def test_the_text_is_that_of_generate_in_the_colors_of_its_probabilities(
    visit: Callable[..., Visit], model: LanguageModel
) -> None:
    here = visit()
    text = here.write(PROMPT, tokens=20, seed=7, top_k=9)
    assert text == PROMPT + model.generate(PROMPT, max_new_tokens=20, seed=7, top_k=9, temperature=0.8)
    ids = model.tokenizer.encode(text).tolist()
    expected = probabilities(model, text)[range(len(ids) - 1), ids[1:]].tolist()
    bounds = (0.01, 0.05, 0.2, 0.5, 0.9)
    classes = [span.get_attribute("class") or "" for span in here.tokens().all()]
    for p, names in zip(expected, classes[1:], strict=True):
        assert f"p{sum(p >= bound for bound in bounds)}" in names.split()
    assert [("given" in names.split()) for names in classes] == [True] * len(PROMPT) + [False] * 20
    perplexity = math.exp(-sum(map(math.log, expected[len(PROMPT) - 1 :])) / 20)
    assert f"20 tokens, perplexity {perplexity:.1f}" in here.page.locator(".readout").inner_text()


def test_stop_ends_the_text_and_frees_its_place(visit: Callable[..., Visit], site: tuple[str, Engine]) -> None:
    here = visit()
    here.page.select_option("#model-0", "endless")
    here.set(tokens=4000)
    here.page.fill("#prompt", PROMPT)
    here.page.click("#write")
    here.until("document.querySelectorAll('[data-token]').length > 20")
    here.page.click("#stop")
    here.wait()
    count = here.tokens().count()
    assert 20 < count < 4000
    assert site[1].n_running == 0
    assert here.page.is_disabled("#stop")
    here.set(tokens=5)
    here.page.get_by_role("button", name="Continue").click()
    here.wait()
    assert here.tokens().count() == count + 5


def test_a_chosen_alternative_begins_a_branch_and_nothing_is_lost(
    visit: Callable[..., Visit], model: LanguageModel
) -> None:
    here = visit()
    first = here.write(PROMPT, tokens=12, seed=3)
    at = len(PROMPT) + 4
    here.tokens().nth(at).click()
    listed = here.page.locator("#alternatives li button")
    top = probabilities(model, first[:at])[-1].topk(10)
    shown = [int(button.get_attribute("data-id") or -1) for button in listed.all()]
    assert shown[:10] == top.indices.tolist()
    percents = [float(re.findall(r"[\d.]+", words)[0]) for words in listed.locator(".number").all_inner_texts()]
    assert percents[:10] == pytest.approx([100 * p for p in top.values.tolist()], abs=0.51)
    chosen = next(i for i, token in enumerate(shown) if model.tokenizer.decode([token]) != first[at])
    listed.nth(chosen).click()
    here.wait()
    second = here.text()
    assert second[: at + 1] == first[:at] + model.tokenizer.decode([shown[chosen]])
    assert len(second) == at + 1 + 12
    assert here.page.locator(".fork").inner_text() == "‹2/2›"
    here.page.locator(".fork").get_by_role("button", name="Previous branch").click()
    assert here.text() == first
    here.page.get_by_role("button", name="Next text").click()
    assert here.text() == second
    here.page.reload()
    here.wait()
    assert here.text() == second, "it survives a reload"
    here.page.get_by_role("button", name="Previous text").click()
    assert here.text() == first


def test_everything_is_done_by_keys(visit: Callable[..., Visit]) -> None:
    here = visit()
    here.set(tokens=8, seed=1)
    here.page.focus("#prompt")
    here.page.keyboard.type(PROMPT)
    here.page.keyboard.press("Control+Enter")
    here.wait()
    first = here.text()
    for _ in range(12):
        here.page.keyboard.press("Tab")
        if here.page.evaluate("document.activeElement.matches('[data-token]')"):
            break
    here.page.keyboard.press("End")
    here.page.keyboard.press("ArrowLeft")
    here.page.keyboard.press("Enter")
    assert here.page.locator("#alternatives").is_visible()
    here.page.keyboard.press("Escape")
    assert not here.page.locator("#alternatives").is_visible()
    assert here.page.evaluate("spansOf(document).indexOf(document.activeElement)") == len(first) - 2
    here.page.keyboard.press("Enter")
    here.page.keyboard.press("ArrowDown")
    here.page.keyboard.press("Enter")
    here.wait()
    second = here.text()
    assert second[: len(first) - 2] == first[:-2]
    assert second != first
    here.page.keyboard.press("ArrowUp")
    assert here.text() == first
    here.page.keyboard.press("ArrowDown")
    assert here.text() == second


def test_the_picture_of_the_next_token_is_what_the_settings_leave(
    visit: Callable[..., Visit], model: LanguageModel
) -> None:
    here = visit()
    here.page.fill("#prompt", PROMPT)
    here.set(temperature=1.3, top_k=5, top_p=0.95)
    here.wait()
    logits = model.logits(PROMPT)[-1:]
    own = logits.softmax(dim=-1)[0]
    left = Sampling(temperature=1.3, top_k=5, top_p=0.95).filtered(logits).softmax(dim=-1)[0]
    names = [button.get_attribute("aria-label") or "" for button in here.page.locator("#next button").all()]
    numbers = [[float(n) for n in re.findall(r"([\d.]+)\s%", name)] for name in names]
    top = own.topk(12).indices
    assert [n[0] for n in numbers] == pytest.approx((100 * own[top]).tolist(), abs=0.51)
    assert [n[1] for n in numbers] == pytest.approx((100 * left[top]).tolist(), abs=0.51)
    words = here.page.locator("#next-kept").inner_text()
    assert f"leave {int((left > 0).sum())} of {model.config.vocab_size} tokens" in words
    here.set(tokens=6)
    here.page.locator("#next button").nth(2).click()
    here.wait()
    assert here.text()[: len(PROMPT) + 1] == PROMPT + model.tokenizer.decode([int(top[2])])
    assert len(here.text()) == len(PROMPT) + 7


@pytest.mark.parametrize(("layer", "head"), [("1", "2"), ("mean", "mean")])
def test_attention_is_that_of_the_token_under_the_pointer(
    visit: Callable[..., Visit], model: LanguageModel, layer: str, head: str
) -> None:
    here = visit()
    text = here.write(PROMPT, tokens=12, seed=5)
    here.page.click("#attention")
    here.page.select_option("#layer", layer)
    here.page.select_option("#head", head)
    query = 11
    with here.page.expect_response("**/api/attention"):
        here.tokens().nth(query).hover()
    here.until(f"spansOf(document)[{query}].classList.contains('query')")
    weights = model.attention(text)[:, :, query, : query + 1]
    expected = weights.mean(dim=(0, 1)) if layer == "mean" else weights[int(layer), int(head)]
    seen = [span.get_attribute("data-attended") for span in here.tokens().all()]
    assert seen[query + 1 :] == [None] * (len(text) - query - 1)
    assert [float(weight or 0) for weight in seen[: query + 1]] == pytest.approx(expected.tolist(), abs=1e-3)
    here.page.click("#attention")
    assert here.page.locator("[data-attended]").count() == 0


@pytest.mark.filterwarnings("ignore:answers:UserWarning")  # of the template
def test_a_chat_is_rendered_by_the_template_and_goes_on(visit: Callable[..., Visit]) -> None:
    here = visit("chat")
    here.set(tokens=10, seed=4, system="be kind")
    here.page.fill("#prompt", "who?")
    here.page.press("#prompt", "Enter")
    here.wait()
    found = instruct_model()
    answers = LanguageModel(found.model, found.tokenizer, found)
    first = answers.generate("who?", max_new_tokens=10, seed=4, system="be kind")
    assert here.text() == first
    assert here.page.locator(".question p").all_inner_texts() == ["who?"]
    here.page.fill("#prompt", "why?")
    here.page.press("#prompt", "Enter")
    here.wait()
    assert here.page.locator(".question p").all_inner_texts() == ["who?", "why?"]
    boxes = here.page.locator(".tokens").all()
    assert "".join(boxes[0].locator("[data-token]").all_text_contents()) == first
    generator = answers.text_generator(GenerationSettings(max_new_tokens=10, seed=4, system="be kind"))
    assert generator.chat is not None
    generator.chat.add("who?", first)
    (second,) = generator.complete([generator.encode("why?")])[0]
    assert "".join(boxes[1].locator("[data-token]").all_text_contents()) == second.text


def test_a_label_has_scores_and_the_tokens_that_mattered(visit: Callable[..., Visit]) -> None:
    here = visit("classify")
    here.page.fill("#prompt", "one day there was a cat")
    here.page.click("#write")
    here.wait()
    found = classifier()
    label = LanguageModel(found.model, found.tokenizer, found).predict("one day there was a cat")
    assert here.page.locator(".label").inner_text() == label.label
    assert set(here.page.locator(".scores .token").all_inner_texts()) == {"ham", "spam"}
    tokens = here.page.locator(".reasons span")
    assert tokens.all_text_contents() == list("one day there was a cat")
    values = "(spans) => spans.map((span) => Number(span.title.replace('−', '-')))"
    assert any(tokens.evaluate_all(values))
    here.page.get_by_label("What mattered").select_option("rollout")
    shares = tokens.evaluate_all(values)
    assert sum(shares) == pytest.approx(1, abs=0.01 * len(shares))


def test_two_models_write_side_by_side_from_the_same_prompt(visit: Callable[..., Visit], model: LanguageModel) -> None:
    here = visit(viewport={"width": 1600, "height": 1000})
    here.page.click("#compare")
    here.write(PROMPT, tokens=15, seed=2)
    assert here.page.locator(".pane h2").all_inner_texts() == ["letters", "others"]
    expected = PROMPT + model.generate(PROMPT, max_new_tokens=15, seed=2)
    assert [here.text(0), here.text(1)] == [expected, expected], "the weights are the same, and so is the seed"
    left, right = (here.page.locator(".pane").nth(i).bounding_box() for i in (0, 1))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    here.page.locator(".pane").nth(1).get_by_role("button", name="Continue").click()
    here.wait()
    assert len(here.text(1)) == len(here.text(0)) + 15


def plant(here: Visit, texts: tuple[str, ...]) -> None:
    """Let the server's tokens be these texts."""

    def planted(route: Route) -> None:
        tokens = [
            {"id": i, "text": text, "logprob": -1.0, "alternatives": [{"id": i, "text": text, "logprob": -1.0}]}
            for i, text in enumerate(texts)
        ]
        if route.request.url.endswith("/next"):
            likely = [{"id": i, "text": text, "probability": 0.2, "chosen_with": 0.2} for i, text in enumerate(texts)]
            answer = {"tokens": tokens, "distribution": likely, "rest": 0.1, "kept": 3, "entropy": 1.0}
            route.fulfill(json=answer)
            return
        event = {"choices": [{"index": 0, "text": "", "tokens": tokens, "finish_reason": "length"}]}
        body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
        route.fulfill(body=body, content_type="text/event-stream")

    here.page.route(re.compile("/api/next|/v1/completions"), planted)


def test_text_is_shown_as_text_whatever_it_holds(visit: Callable[..., Visit]) -> None:
    here = visit()
    plant(here, HOSTILE)
    text = here.write(HOSTILE[0] + HOSTILE[1])
    assert text == "".join(HOSTILE) * 2
    here.tokens().nth(0).click()
    assert here.page.locator("#alternatives .token").inner_text() == HOSTILE[0].replace(" ", "·")
    here.page.keyboard.press("Escape")
    here.page.click("#copy-panel summary")
    here.page.locator("#code", has_text=HOSTILE[1]).wait_for()
    assert here.page.locator("#stage img, #stage script, aside img, aside script, #alternatives img").count() == 0
    assert here.page.evaluate("window.hacked") is None


def test_the_policy_stops_what_would_be_injected(visit: Callable[..., Visit]) -> None:
    here = visit()
    here.page.evaluate("""() => {
      const made = document.createElement("div");
      made.innerHTML = "<img src=x onerror='window.hacked=1'>";
      document.body.append(made);
    }""")
    here.page.wait_for_timeout(200)
    assert here.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in fault for fault in here.faults)
    here.faults.clear()
    here.elsewhere.clear()


def fail(here: Visit, **answer: Any) -> None:
    here.page.route("**/v1/completions", lambda route: route.fulfill(**answer))


def test_a_full_queue_is_stated_with_the_time_to_wait(visit: Callable[..., Visit]) -> None:
    here = visit()
    body = {"error": {"message": "64 requests wait already", "type": "rate_limit", "param": None, "code": None}}
    fail(here, status=429, json=body, headers={"Retry-After": "3"})
    here.write(PROMPT)
    problem = here.page.locator(".pane .problem").inner_text()
    assert problem == "64 requests wait already. The server is busy. Try again in 3 seconds."
    assert here.text() == PROMPT, "the prompt is kept"
    here.page.unroute("**/v1/completions")
    here.page.get_by_role("button", name="Again").click()
    here.wait()
    assert not here.page.locator(".pane .problem").is_visible()
    here.faults.clear()  # the browser's own line about the status


def test_a_lost_connection_keeps_what_was_written(visit: Callable[..., Visit]) -> None:
    here = visit()
    event = {"choices": [{"index": 0, "text": "a", "tokens": [{"id": 1, "text": "a", "logprob": -1.0}]}]}
    fail(here, body=f"data: {json.dumps(event)}\n\n", content_type="text/event-stream")
    assert here.write(PROMPT) == f"{PROMPT}a"
    assert "The connection was lost. What was written is kept" in here.page.locator(".pane .problem").inner_text()
    here.page.unroute("**/v1/completions")
    here.page.route("**/v1/completions", lambda route: route.abort("connectionrefused"))
    here.page.get_by_role("button", name="Continue").click()
    here.wait()
    assert "cannot be reached" in here.page.locator(".pane .problem").inner_text()
    assert here.text() == f"{PROMPT}a"
    here.faults.clear()


def test_a_text_beyond_the_context_is_refused_with_both_numbers_unless_a_window_slides(
    visit: Callable[..., Visit],
) -> None:
    here = visit()
    here.page.select_option("#model-0", "endless")
    here.page.uncheck("#slide")
    here.write("a" * 60, tokens=30)
    problem = here.page.locator(".pane .problem").inner_text()
    assert "64" in problem
    assert "30" in problem or "90" in problem
    here.page.check("#slide")
    assert len(here.write("a" * 60)) == 90
    here.faults.clear()


def test_the_key_of_the_server_is_asked_for_again_while_it_is_wrong_and_then_kept(browser: Browser) -> None:
    with server(loaded(), api_key="secret") as (address, _):
        context = browser.new_context()
        here = Visit(context.new_page(), address)
        here.listen()
        here.page.goto(address)
        for key in ("wrong", "secret"):
            here.page.fill("#key", key)
            here.page.keyboard.press("Enter")
            here.page.wait_for_timeout(500)
        here.wait()
        assert here.write(PROMPT, tokens=3).startswith(PROMPT)
        here.faults.clear()  # the browser's own lines about the status
        here.page.reload()
        here.wait()
        assert here.text().startswith(PROMPT)
        assert here.faults == []
        context.close()


@pytest.mark.parametrize("form", ["command", "python", "curl"])
def test_what_is_copied_gives_the_same_text(
    visit: Callable[..., Visit],
    model: LanguageModel,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = visit()
    prompt = "one day.\n  a cat: b"
    text = here.write(prompt, tokens=14, top_p=0.9, frequency_penalty=0.5).removeprefix(prompt)
    here.page.click("#copy-panel summary")
    here.page.click(f"#form-{form}")
    here.page.click("#copy")
    here.until("document.querySelector('#copied').textContent === 'copied'")
    code = here.page.evaluate("navigator.clipboard.readText()")
    if form == "curl":
        words = shlex.split(code)
        body, headers = words[words.index("-d") + 1], {"Content-Type": "application/json"}
        assert text == httpx.post(words[1], content=body, headers=headers).json()["choices"][0]["text"]
    elif form == "python":
        monkeypatch.setattr(gpt2_lightning, "load", lambda source: model)
        capsys.readouterr()
        exec(code, {})
        assert capsys.readouterr().out == f"{text}\n"
    else:
        python, program, checkpoint, *words = shlex.split(code.replace("\\\n", ""))
        assert [python, program, checkpoint] == ["python", "generate.py", "checkpoint=CHECKPOINT"]
        given = dict(word.split("=", 1) for word in words)
        assert text == model.generate(given.pop("prompt"), **{name: json.loads(value) for name, value in given.items()})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything(visit: Callable[..., Visit], view: str, scheme: str) -> None:
    here = visit(view, viewport={"width": 360, "height": 700}, color_scheme=scheme)
    here.page.fill("#prompt", "one day there was a cat")
    here.page.click("#write")
    here.wait()
    beyond = """[...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > 360.5
      && !node.closest(".skip, .unseen, #code, dialog")).map((node) => node.outerHTML.slice(0, 80))"""
    assert here.page.evaluate(beyond) == []
    assert here.page.evaluate("document.documentElement.scrollWidth") == 360
    if view != "classify":
        here.tokens().nth(2).click()
        box = here.page.locator("#alternatives").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["y"] + box["height"] <= 700


def least_contrast(here: Visit, tokens: str = "[data-token]") -> float:
    """Between letters and what is painted behind them, of all tokens."""
    painted = """(spans) => spans.map((span) => {
      const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
      for (const node of [span.closest(".panel"), span]) {
        context.fillStyle = getComputedStyle(node).backgroundColor;
        context.fillRect(0, 0, 1, 1);
      }
      const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
      return [`rgb(${red} ${green} ${blue})`, getComputedStyle(span).color];
    })"""
    here.page.wait_for_timeout(200)  # colors change gradually
    return min(contrast(*pair) for pair in here.page.locator(tokens).evaluate_all(painted))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_follow_the_system_until_the_reader_chooses(visit: Callable[..., Visit], scheme: str) -> None:
    here = visit(color_scheme=scheme)
    here.write(PROMPT, tokens=20)
    style = "getComputedStyle(document.body)"

    def ground() -> str:
        color: str = here.page.evaluate(f"{style}.backgroundColor")
        assert contrast(color, here.page.evaluate(f"{style}.color")) >= 7
        return color

    first = ground()
    assert (contrast(first, "#000000") < 2) == (scheme == "dark")
    here.page.click("#attention")
    here.tokens().nth(0).focus()
    here.until("document.querySelector('.query')?.dataset.attended === '1.000'")
    assert least_contrast(here) >= 4.5, "the first token attends to itself alone: the strongest color"
    here.page.click("#attention")
    assert least_contrast(here) >= 4.5
    here.page.click("#tab-classify")
    here.page.fill("#prompt", "one day")
    here.page.click("#write")
    here.wait()
    assert least_contrast(here, ".reasons span") >= 4.5
    here.page.click("#theme")
    assert ground() != first
    here.page.reload()
    here.wait()
    assert ground() != first, "the choice is kept"
