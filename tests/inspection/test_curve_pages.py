"""The page of curves: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.inspection.curves.page import write_page
from gpt2_lightning.inspection.curves.panels import make_panels
from gpt2_lightning.inspection.curves.runs import read_runs
from tests.inspection.browser import FLAGS
from tests.inspection.metrics_of_runs import USUAL, write_run

EVIL = "<script>document.title=1</script>&<!--"
ENDS = "</script><b>"
CHROMIUM = shutil.which("chromium")
CATCH = "<script>window.faults = []; addEventListener('error', (event) => faults.push(event.message))</script>"
PROBE = """<script>
const probe = {};
const [canvas] = document.querySelectorAll("canvas");
const box = canvas.getBoundingClientRect();
const point = (type, x, y) => canvas.dispatchEvent(
  new PointerEvent(type, { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true }));
const key = (name) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const tip = () => [...canvas.parentElement.querySelectorAll(".tip p")].map((line) => line.textContent);
const names = () => [...document.querySelectorAll("#runs tr td:first-child")].map((cell) => cell.textContent);
setTimeout(() => {
  const scale = charts[0].scales;
  point("pointermove", scale.toX(20), scale.toY(3.5));
  probe.hover = tip();
  point("pointerleave", 0, 0);
  probe.hiddenAfter = canvas.parentElement.querySelector(".tip").hidden;
  key("End");
  probe.end = tip();
  document.querySelectorAll("#runs input")[0].click();
  key("End");
  probe.withoutFirst = tip();
  document.querySelectorAll("#runs input")[0].click();
  probe.names = names();
  document.querySelector("#head th:nth-child(5) button").click();
  probe.byTokens = names();
  canvas.setPointerCapture = () => {};
  point("pointerdown", charts[0].scales.toX(20), 50);
  point("pointerup", charts[0].scales.toX(30), 50);
  probe.zoomed = charts.map((chart) => chart.scales.range.map(Math.round));
  document.getElementById("reset").click();
  document.getElementById("log").click();
  probe.whole = charts[0].scales.range;
  probe.shades = names().map((_, run) => rows[run].swatch.style.background.includes("gradient"));
  const filter = document.getElementById("filter");
  filter.value = "Validation=no  LR=1";
  filter.dispatchEvent(new Event("input"));
  probe.none = document.getElementById("count").textContent;
  filter.value = "good LR=1";
  filter.dispatchEvent(new Event("input"));
  probe.filtered = [...document.querySelectorAll("#runs tr")].filter((row) => !row.hidden).length;
  probe.count = document.getElementById("count").textContent;
  probe.drawn = visible(data.panels[0]).map((line) => line.run);
  probe.title = document.title;
  probe.faults = faults;
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify(probe);
  document.body.append(result);
}, 500);
</script>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Of two runs, one with a name that would run if it were taken for code, which diverged."""
    folders = [
        write_run(tmp_path / "runs" / "good", USUAL, {"lr": 1}),
        write_run(
            tmp_path / "runs" / EVIL.replace("/", "∕"),
            "10,0,500,5.0,,0.1,100\n20,0,600,nan,,0.1,100\n30,0,700,6.0,,0.1,100",
            {"lr": ENDS},
        ),
    ]
    runs = read_runs(folders)
    file = tmp_path / "page.html"
    panels = make_panels(runs, ["loss", "throughput"], "step", 0.5)
    write_page(panels, runs, f"two runs: {EVIL}", file)
    return file


def test_the_page_holds_the_figures_and_json_without_nan(page: Path) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data = json.loads(found[1], parse_constant=lambda name: pytest.fail(name))
    loss, speed = data["panels"]
    assert [(line["run"], line["part"], line["y"]) for line in loss["lines"]] == [
        (0, "train", [4, 3, 2]),
        (0, "val", [3.5, 3.25]),
        (1, "train", [5, None, 6]),
    ]
    assert loss["lines"][1]["best"] == 1
    assert loss["lines"][0]["s"] == pytest.approx([4, (0.5 * 4 + 3) / 1.5, (0.25 * 4 + 0.5 * 3 + 2) / 1.75])
    assert speed["lines"][0]["x"] == [10, 20, 40]


def test_the_page_asks_for_nothing_from_outside(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    assert re.findall(r"https?://|\bsrc=|<link|@import|url\(", text) == []


def test_names_of_runs_stay_text(page: Path) -> None:
    text = page.read_text()
    assert EVIL not in text
    assert ENDS not in text
    assert "<!--" not in text
    assert html.escape(EVIL) in text


def in_a_browser(page: Path, profile: Path, script: str = PROBE) -> dict[str, Any]:
    """What the probe saw and did in Chromium."""
    assert CHROMIUM
    text = page.read_text().replace("<head>", f"<head>{CATCH}").replace("</body>", f"{script}</body>")
    page.write_text(text)
    command = [CHROMIUM, *FLAGS, "--window-size=1200,900", f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_reads_hides_sorts_and_zooms(page: Path, tmp_path: Path) -> None:
    probe = in_a_browser(page, tmp_path / "profile")
    assert probe["faults"] == []
    assert probe["title"] == f"two runs: {EVIL}", "no code from a name has run"
    evil = EVIL.replace("/", "∕")
    assert probe["hover"] == [
        "20 optimizer steps",
        "good: lr=1validation 3.5",
        "good: lr=1training 3.333",
        f"{evil}: lr={ENDS}training no number",
    ]
    assert probe["hiddenAfter"] is True
    assert probe["end"][0] == "40 optimizer steps"
    assert sorted(probe["end"][1:]) == ["good: lr=1training 2.571", "good: lr=1validation 3.25"]
    assert probe["withoutFirst"][0] == "30 optimizer steps", "the other run ends there"
    assert probe["names"] == ["good", evil]
    assert probe["byTokens"] == [evil, "good"]
    assert probe["zoomed"] == [[20, 30], [20, 30]]
    assert probe["whole"] == [10, 40]
    assert probe["none"] == "0 of 2 runs"
    assert (probe["filtered"], probe["count"], probe["drawn"]) == (1, "1 of 2 runs", [0, 0])


SEEDS_PROBE = """<script>
setTimeout(() => {
  const probe = { faults };
  const roles = () => visible(data.panels[0]).map((line) => `${line.run} ${line.role}`);
  probe.all = roles();
  document.getElementById("seeds").click();
  probe.means = roles();
  probe.swatches = new Set(rows.map(({ swatch }) => swatch.style.background)).size;
  document.querySelectorAll("#runs input").forEach((box) => box.click());
  probe.nothing = roles();
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify(probe);
  document.body.append(result);
}, 500);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_means_over_seeds_and_forty_groups(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "runs" / f"s{seed}", USUAL, {"seed": seed, "lr": 0}) for seed in range(2)]
    folders += [write_run(tmp_path / "runs" / f"z{lr}", USUAL, {"seed": 0, "lr": lr}) for lr in range(1, 36)]
    runs = read_runs(folders)
    write_page(make_panels(runs, ["val/loss"], "step", 0.0), runs, "runs", tmp_path / "page.html")
    probe = in_a_browser(tmp_path / "page.html", tmp_path / "profile", SEEDS_PROBE)
    assert probe["faults"] == []
    assert sorted(probe["all"]) == sorted(["0 seed", "1 seed", "0 mean", *(f"{run} run" for run in range(2, 37))])
    assert sorted(probe["means"]) == sorted(["0 mean", *(f"{run} run" for run in range(2, 37))])
    assert probe["nothing"] == []
    assert probe["swatches"] == 36, "35 styles, and gray"
