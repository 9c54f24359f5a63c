"""The page of explanations in a real browser, opened from disk: pointing at a token, and colors in light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.inspection.attribution.export import format_value
from gpt2_lightning.inspection.attribution.methods import METHODS
from gpt2_lightning.inspection.attribution.page import write_attribution_page
from tests.contrast import contrast, luminance
from tests.inspection.attributed import TASK, TEXTS, explained
from tests.inspection.browser import FLAGS

pytestmark = pytest.mark.slow

TOKEN = 2
SCHEMES = {"dark": "0", "light": "1"}
DRIVER = f"""<script>
const section = document.querySelectorAll("section[data-text]")[1];
const reading = section.querySelector(".reading");
const point = (node) => node.dispatchEvent(new PointerEvent("pointerover", {{ bubbles: true }}));
const idle = reading.textContent;
point(section.querySelector('.tokens [data-token="{TOKEN}"]'));
const marked = [...document.querySelectorAll(".here")].map((node) => [node.tagName, node.textContent]);
const read = reading.textContent;
point(section.querySelector("h2"));
const press = (key) => section.querySelector(".tokens").dispatchEvent(new KeyboardEvent("keydown", {{ key }}));
const keys = ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft", "Escape"];
const chosen = keys.map((key) => {{
  press(key);
  return section.querySelector(".here")?.dataset.token ?? null;
}});
["Home", "ArrowRight", "ArrowRight"].forEach(press);
const typed = reading.textContent;
section.querySelector(".tokens").focus();
const focused = document.activeElement.className;
document.activeElement.blur();
const solid = [...document.querySelectorAll(".legend span")].map((node) => {{
  const style = getComputedStyle(node);
  return [style.backgroundColor, style.color];
}});
const page = [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color];
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.documentElement.style.width = "400px";
const scrolled = ".scroll *, .tokens *";
const rights = [...document.querySelectorAll("body *")]
  .filter((node) => !node.matches(scrolled))
  .map((node) => node.getBoundingClientRect().right);
const narrow = Math.max(...rights);
document.documentElement.style.width = "";
const result = document.createElement("pre");
result.id = "result";
const back = reading.textContent === idle && !document.querySelector(".here");
result.textContent = JSON.stringify({{ marked, read, back, solid, page, wide, chosen, typed, focused, narrow }});
document.body.append(result);
</script>"""


@pytest.fixture(scope="module", params=SCHEMES)
def visit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen in a browser that prefers a color scheme."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    folder: Path = tmp_path_factory.mktemp("browser")
    file = folder / "explanation.html"
    write_attribution_page(explained(TEXTS), "a run", TASK, file)
    file.write_text(file.read_text(encoding="utf-8").replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={SCHEMES[request.param]}"
    command = [chromium, *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    plain = result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(plain), "console": console, "scheme": request.param}


def test_nothing_is_complained_of_and_nothing_is_cut_off(visit: dict[str, Any]) -> None:
    assert visit["console"] == []
    assert visit["wide"] == 0
    assert visit["narrow"] <= 400


def test_pointing_at_a_token_marks_it_everywhere_and_reads_its_values(visit: dict[str, Any]) -> None:
    text = explained(TEXTS)[1]
    assert [tag for tag, _ in visit["marked"]] == ["SPAN"] * len(METHODS) + ["TR"]
    assert {label for tag, label in visit["marked"] if tag == "SPAN"} == {text.tokens[TOKEN]}
    values = {m: float(text.result.attributions[m][TOKEN]) for m in METHODS}
    expected = ", ".join(f"{known.name} {format_value(values[m], known.is_signed)}" for m, known in METHODS.items())
    assert visit["read"] == f"{text.tokens[TOKEN]} (token {TOKEN}): {expected}"
    assert visit["back"]


def test_arrow_keys_choose_tokens_as_the_pointer_does(visit: dict[str, Any]) -> None:
    last = str(len(explained(TEXTS)[1].tokens) - 1)
    assert visit["chosen"] == ["0", "1", "0", last, last, "0", "0", None]
    assert visit["typed"] == visit["read"], "both of token 2"
    assert visit["focused"] == "tokens"


def test_letters_are_read_on_every_color(visit: dict[str, Any]) -> None:
    ground, _ = visit["page"]
    assert (luminance(ground) < 0.1) == (visit["scheme"] == "dark")
    assert len(visit["solid"]) == 3
    for colors in (visit["page"], *visit["solid"]):
        assert contrast(*colors) >= 4.5, colors
