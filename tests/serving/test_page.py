"""The page of the server as one file: its size, its policy, and the logic of its tree of texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.serving.page.join import page
from tests.contrast import contrast
from tests.serving.served import instruct_model, run, serving

FOLDER = Path(str(resources.files("gpt2_lightning.serving") / "page"))
MOST_BYTES = 100_000
MOST_LINES = 300
INK = {"light": "#1d2530", "dark": "#e4e7eb"}


def test_the_page_is_small_and_has_all_of_its_files() -> None:
    html = page().html
    assert len(html.encode()) <= MOST_BYTES
    assert "{{" not in html
    files = [file for file in FOLDER.iterdir() if file.suffix in (".js", ".css", ".html")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) < MOST_LINES
        assert file.suffix == ".html" or text in html, file.name


def test_the_page_names_no_other_address() -> None:
    assert re.findall(r"https?:|[\"'(]//|@import|url\(", page().html) == []


def test_the_policy_admits_the_script_and_the_style_of_the_page_alone() -> None:
    html, policy = page()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert "unsafe" not in policy


def test_the_server_sends_the_page_with_its_policy() -> None:
    async def test() -> None:
        async with serving() as (client, _):
            answer = await client.get("/")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["content-security-policy"] == page().policy
            assert answer.text == page().html

    run(test)


def test_the_oldest_turns_of_a_conversation_make_room_for_the_answer() -> None:
    turns = [{"role": role, "content": "ab"} for _ in range(6) for role in ("user", "assistant")]

    async def test() -> None:
        async with serving(instruct_model()) as (client, _):
            counts = []
            for room in (None, 1, 30):
                body = {"prompt": "", "messages": [*turns, {"role": "user", "content": "c"}], "room": room}
                answer = (await client.post("/api/next", json={"model": "answers", **body})).json()
                counts.append(len(answer["tokens"]))
                assert "".join(token["text"] for token in answer["tokens"]).endswith("?:c\nA:")
            cut, full, room_for_more = counts
            assert cut == 64, "the end, as much as the context has room for"
            assert room_for_more < full <= 64
            assert room_for_more <= 64 + 1 - 30

    run(test)


def test_no_text_becomes_html_or_code() -> None:
    html = page().html
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|srcdoc", html) == []
    markup = re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)
    assert re.findall(r"\son\w+=|\sstyle=|javascript:", markup) == []


@pytest.mark.parametrize("theme", INK)
def test_letters_are_read_on_the_color_of_every_probability(theme: str) -> None:
    rules = re.findall(rf'theme="{theme}"\]\) \.p\d {{ background: (#\w+); }}', page().html)
    assert len(rules) == len(set(rules)) == 5
    assert min(contrast(background, INK[theme]) for background in rules) >= 4.5


def test_every_control_has_a_name() -> None:
    html = page().html
    labels = set(re.findall(r'<label for="([\w-]+)"', html))
    controls = re.findall(r"<(?:input|select|textarea) [^>]*>", html)
    assert {re.findall(r'id="([\w-]+)"', control)[0] for control in controls} <= labels
    assert all(re.sub(r"<[^>]*>", "", text).strip() for text in re.findall(r"<button[^>]*>(.*?)</button>", html))


def evaluated(expression: str, *files: str) -> Any:
    """Value of an expression after files of the page were run, in Node.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    sources = "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in files)
    script = f'"use strict";\n{sources}\nconsole.log(JSON.stringify({expression}));'
    return json.loads(subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout)


def test_the_script_is_valid(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    (script,) = re.findall(r"<script>\n(.*?)</script>", page().html, re.DOTALL)
    file = tmp_path / "script.js"
    for text, is_valid in ((script, True), (script + "}", False)):
        file.write_text(text, encoding="utf-8")
        assert (subprocess.run([node, "--check", file], capture_output=True).returncode == 0) is is_valid


_GROWN = """(() => {
  const tree = new Tree();
  const write = (from, ...ids) => ids.reduce((node, id) => tree.add(node, { id, text: `${id}` }), from);
  const prompt = write(tree.root, 1, 2);
  tree.given = prompt;
  write(prompt, 3, 4);
  write(prompt, 3, 5, 6);
  const other = write(prompt, 7);
  const shown = () => tree.path().map(({ token }) => token.id);
  const found = { last: shown(), texts: tree.leaves().map(idsUpTo), branch: branch(other) };
  tree.show(tree.leaves()[1]);
  found.second = shown();
  const again = Tree.fromPlain(JSON.parse(JSON.stringify(tree.toPlain())));
  found.restored = [again.path().map(({ token }) => token.id), idsUpTo(again.given), again.leaves().length];
  return found;
})()"""


def test_texts_with_equal_beginnings_share_them_in_the_tree() -> None:
    found = evaluated(_GROWN, "tree")
    assert found["texts"] == [[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 7]], "nothing is lost"
    assert found["last"] == [1, 2, 7], "the text written last is shown"
    assert found["branch"] == [1, 2]
    assert found["second"] == [1, 2, 3, 5, 6]


def test_the_tree_survives_a_reload() -> None:
    assert evaluated(_GROWN, "tree")["restored"] == [[1, 2, 3, 5, 6], [1, 2], 3]


def test_ids_of_an_answer_follow_those_of_its_question() -> None:
    expression = """(() => {
      const tree = new Tree();
      const first = tree.add(tree.ask(tree.root, "Why?", [10, 11]), { id: 1, text: "So." });
      const unanswered = tree.ask(first, "What?", [10, 11, 1, 9]);
      const second = tree.add(tree.ask(unanswered, "How?", [10, 11, 1, 12]), { id: 2, text: "Th" });
      const third = tree.add(second, { id: 3, text: "us." });
      return [idsUpTo(first), idsUpTo(third), messagesUpTo(third)];
    })()"""
    first, third, messages = evaluated(expression, "text", "tree")
    assert first == [10, 11, 1]
    assert third == [10, 11, 1, 12, 2, 3]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "Why?"), ("assistant", "So."), ("user", "How?"), ("assistant", "Thus.")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["é", "→ 👩‍🚀!", "日本"])
def test_characters_of_several_tokens_are_joined(text: str) -> None:
    tokens = [part for c in text for part in ([c] if c.isascii() else [f"<0x{byte:02X}>" for byte in c.encode()])]
    assert evaluated(f"joined({json.dumps(tokens)})", "text") == text


def test_bytes_that_are_no_characters_stay_as_they_are_written() -> None:
    assert evaluated('joined(["a", "<0xE2>", "b", "<0xFF><0xFE>"])', "text") == "a<0xE2>b<0xFF><0xFE>"
