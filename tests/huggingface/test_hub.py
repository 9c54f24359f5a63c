"""Models of the hub, from a small server that speaks its protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import folder, hub, to_huggingface
from gpt2_lightning.huggingface.verify import require_same
from gpt2_lightning.tokenizers import CharTokenizer
from tests.huggingface.networks import lively

COMMIT, OLDER = "a1" * 20, "b2" * 20
FETCH = """
import json, sys
from gpt2_lightning.errors import UserError
from gpt2_lightning.huggingface import hub
for line in sys.stdin:
    try:
        found = hub.fetch(line.strip())
        print(json.dumps([found.name, found.commit, str(found.folder)]), flush=True)
    except UserError as error:
        print(json.dumps(str(error)), flush=True)
"""


@dataclass
class Hub:
    """A repository `someone/tiny` with two commits, of which the newer is `main`."""

    files: dict[str, bytes]
    fetched: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Revisions that were looked up."""


def handler(served: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:4] == ["api", "models", "someone", "tiny"] and parts[4] in ("revision", "tree"):
                commit = {"main": COMMIT, COMMIT: COMMIT, OLDER: OLDER}.get(parts[5])
                if commit is None:
                    self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                elif parts[4] == "revision":
                    served.asked.append(parts[5])
                    names = [{"rfilename": name} for name in served.files]
                    self.answer(200, json.dumps({"id": "someone/tiny", "sha": commit, "siblings": names}).encode())
                else:
                    tree = [
                        {"type": "file", "path": name, "size": len(content), "oid": f"{i:040x}"}
                        for i, (name, content) in enumerate(served.files.items())
                    ]
                    self.answer(200, json.dumps(tree).encode())
            elif parts[:3] == ["someone", "tiny", "resolve"]:
                content = served.files[parts[4]]
                served.fetched.append(parts[4])
                self.answer(200, content, {"X-Repo-Commit": parts[3], "ETag": f'"{parts[4]}"'})
            else:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def served(tmp_path: Path) -> Hub:
    folder.write(lively(), CharTokenizer("abcdefghijklmnopqrstuv "), tmp_path / "model", "# A card\n", 20_000)
    files = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    return Hub({**files, "pytorch_model.bin": b"pickle", "modeling_tiny.py": b"raise SystemExit", "tf_model.h5": b"0"})


@contextmanager
def listening(served: Hub) -> Iterator[str]:
    """Answer at the address that is given, until the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(served))
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def fetching(address: str, home: Path) -> Iterator[Callable[[str], Any]]:
    """`hub.fetch` in another process, where the hub has this address."""
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def fetch(wanted: str) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{wanted}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with process:
        yield fetch


def test_models_are_fetched_by_branch_and_commit_and_found_again_without_a_network(served: Hub, tmp_path: Path) -> None:
    with ExitStack() as network:
        address = network.enter_context(listening(served))
        with fetching(address, tmp_path / "home") as fetch:
            by_branch, unnamed = fetch("hf:someone/tiny@main"), fetch("hf:someone/tiny")
            assert by_branch[:2] == unnamed[:2] == ["someone/tiny", COMMIT]
            older = fetch(f"hf:someone/tiny@{OLDER}")
            assert older[1] == OLDER
            require_same(to_huggingface(folder.read(Path(by_branch[2])).model), to_huggingface(lively()), Path())
            left = {"pytorch_model.bin", "modeling_tiny.py", "tf_model.h5", "README.md"}
            assert set(served.files) - set(served.fetched) == left
            for missing in ("hf:someone/tiny@v9", "hf:someone/huge@main"):
                assert fetch(missing).startswith(f"{missing}: the hub refused it")

            network.close()
            assert fetch("hf:someone/tiny@main") == fetch(f"hf:someone/tiny@{COMMIT}") == by_branch
            assert fetch(f"hf:someone/tiny@{OLDER}") == older
            lost = fetch("hf:someone/tiny@" + "c3" * 20)
            assert "the hub cannot be reached" in lost
            assert f"hf download someone/tiny --revision {'c3' * 20} --local-dir FOLDER" in lost


def test_a_model_without_safetensors_is_fetched_as_its_pickle(served: Hub, tmp_path: Path) -> None:
    served.files = {name: content for name, content in served.files.items() if "safetensors" not in name}
    with listening(served) as address, fetching(address, tmp_path / "home") as fetch:
        assert (Path(fetch("hf:someone/tiny@main")[2]) / "pytorch_model.bin").read_bytes() == b"pickle"
        assert "tf_model.h5" not in served.fetched


def test_a_branch_is_looked_up_once_and_a_commit_in_the_cache_never(served: Hub, tmp_path: Path) -> None:
    pinned = f"hf:someone/tiny@{COMMIT}"
    with listening(served) as address, fetching(address, tmp_path / "home") as fetch:
        by_branch = fetch("hf:someone/tiny@main")
        assert served.asked == ["main"]
        served.fetched.clear()
        assert fetch(pinned) == by_branch
        assert (served.asked, served.fetched) == (["main"], [])
        (Path(by_branch[2]) / "tokenizer.json").unlink()  # as another program leaves it that wants no tokenizer
        assert fetch(pinned) == by_branch
        assert served.fetched == ["tokenizer.json"]


OUTSIDE = ["hf:gpt2@../../../x", "hf:gpt2@a/../b", "hf:gpt2@/etc", "hf:gpt2@a//b", "hf:gpt2@.", "hf:gpt2@-x"]


@pytest.mark.parametrize("address", ["hf:", "hf:a/b/c", "hf:gpt2@", "hf:gpt2 @main", "hf:a--b@main@x", *OUTSIDE])
def test_addresses_of_another_form_are_refused(address: str) -> None:
    with pytest.raises(UserError, match="the form hf:NAME@REVISION"):
        hub.fetch(address)
